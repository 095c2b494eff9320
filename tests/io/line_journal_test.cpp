#include "molar/io/line_journal.h"

#include <gtest/gtest.h>

#include <fstream>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;
using Lines = std::vector<std::string>;

std::string text_of(const std::filesystem::path& path) { return read_file(path, 1 << 20); }

TEST(LineJournal, AppendsBehindWholeLinesAndCutsATornOne) {
  const test::TempFolder folder;
  const auto path = folder / "new" / "x.jsonl";
  {
    LineJournal journal(path);
    EXPECT_TRUE(journal.read().lines.empty());
    journal.append("one");
    journal.append("two");
  }
  std::ofstream(path, std::ios::app) << "thr";
  {
    LineJournal journal(path);
    const LineJournal::Contents contents = journal.read();
    EXPECT_EQ(contents.lines, (Lines{"one", "two"}));
    EXPECT_TRUE(contents.torn);
    EXPECT_EQ(text_of(path), "one\ntwo\nthr") << "reading changes nothing";
    journal.append("three");
  }
  EXPECT_EQ(text_of(path), "one\ntwo\nthree\n");
}

TEST(LineJournal, ClosesWithOtherLinesInOneStep) {
  const test::TempFolder folder;
  {
    LineJournal journal(folder / "x.jsonl");
    journal.append("one");
    journal.close_with({"a", "b"});
  }
  EXPECT_EQ(text_of(folder / "x.jsonl"), "a\nb\n");
  EXPECT_EQ(LineJournal(folder / "x.jsonl").read().lines, (Lines{"a", "b"}));
}

TEST(LineJournal, OneHasIt) {
  const test::TempFolder folder;
  const LineJournal journal(folder / "x.jsonl");
  expect_error<FileError>([&] { LineJournal{folder / "x.jsonl"}; }, {"x.jsonl", "another run"});
  expect_error<FileError>([&] { LineJournal{folder / "x.jsonl" / "y"}; }, {"cannot"});
}

}  // namespace
}  // namespace molar
