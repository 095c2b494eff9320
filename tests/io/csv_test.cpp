#include "molar/io/csv.h"

#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;
using Texts = std::vector<std::vector<std::string>>;

Texts texts(std::string_view csv) {
  Texts out;
  for (const CsvRow& row : parse_csv(csv, "x.csv")) {
    out.emplace_back();
    for (const CsvCell& cell : row) out.back().push_back(cell.text);
  }
  return out;
}

TEST(Csv, ReadsWhatRfc4180Has) {
  const Texts wanted = {{"a", "b"}, {"c,d", "e \"f\"\r\ng"}, {"", ""}};
  EXPECT_EQ(texts("a,b\r\n\"c,d\",\"e \"\"f\"\"\r\ng\"\r\n,\r\n"), wanted);
  EXPECT_EQ(texts("a,b\n\"c,d\",\"e \"\"f\"\"\r\ng\"\n,"), wanted);
  EXPECT_EQ(texts("a,b\r\"c,d\",\"e \"\"f\"\"\r\ng\"\r,"), wanted);
}

TEST(Csv, SpacesAreTextAndEmptyLinesAreNoRows) {
  EXPECT_EQ(texts(" a , b\t\n\n\r\n\"\"\n"), (Texts{{" a ", " b\t"}, {""}}));
  EXPECT_EQ(texts(""), Texts{});
  EXPECT_EQ(texts("\n\r\n\r"), Texts{});
}

TEST(Csv, EveryCellKnowsItsPlace) {
  const auto rows = parse_csv("a,\"b\nc\",d\r\n\r\nh\xC3\xBCt,\"\",x\n", "x.csv");
  ASSERT_EQ(rows.size(), 2U);
  const auto at = [&](size_t row, size_t cell) {
    return std::pair(rows[row][cell].position.line, rows[row][cell].position.column);
  };
  EXPECT_EQ(at(0, 0), std::pair(int64_t{1}, int64_t{1}));
  EXPECT_EQ(at(0, 1), std::pair(int64_t{1}, int64_t{3}));
  EXPECT_EQ(at(0, 2), std::pair(int64_t{2}, int64_t{4}));
  EXPECT_EQ(at(1, 0), std::pair(int64_t{4}, int64_t{1}));
  EXPECT_EQ(at(1, 1), std::pair(int64_t{4}, int64_t{5}));  // characters, not bytes
  EXPECT_EQ(at(1, 2), std::pair(int64_t{4}, int64_t{8}));
}

TEST(Csv, RefusesWhatHasNoOneMeaning) {
  expect_error<InputError>([] { parse_csv("a,b\nc,d\"e\n", "x.csv"); },
                           {"x.csv:2:4", "quote inside a cell without quotes"});
  expect_error<InputError>([] { parse_csv("a,\"b\" \n", "x.csv"); },
                           {"x.csv:1:6", "text behind a closing quote"});
  expect_error<InputError>([] { parse_csv("a,b\nc,\"d\n\"\"e\n", "x.csv"); },
                           {"x.csv:2:3", "never closed"});
}

}  // namespace
}  // namespace molar
