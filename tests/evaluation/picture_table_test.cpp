#include "molar/evaluation/picture_table.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "bitmap_font.h"
#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;
using Lines = std::vector<std::string>;

Tensor plain(int64_t height, int64_t width, int64_t level) {
  return at::full({height, width, 3}, level, at::kByte);
}

/// Ink of `text` at scale 1, as rows of '#'.
Lines drawn(const std::string& text) {
  Tensor pixels = plain(9, text_width(text), 255);
  draw_text_(pixels, 0, 0, text, {});
  Lines rows;
  for (int64_t y = 0; y < pixels.size(0); ++y) {
    rows.emplace_back();
    for (int64_t x = 0; x < pixels.size(1); ++x)
      rows.back() += pixels[y][x][0].item<int>() == 0 ? '#' : ' ';
  }
  return rows;
}

TEST(BitmapFont, DrawsLettersAndABoxForTheRest) {
  EXPECT_EQ(drawn("Lg"),
            (Lines{"#           ", "#           ", "#      #### ", "#     #   # ", "#     #   # ",
                   "#     #   # ", "#####  #### ", "          # ", "       ###  "}));
  const Lines box = drawn("\u00fc");
  EXPECT_EQ(box, drawn("\u732b"));
  EXPECT_EQ(box, drawn("\xFF"));
  EXPECT_EQ(box[0], "##### ");
  EXPECT_EQ(box[3], "#   # ");
}

TEST(BitmapFont, EveryAsciiCharacterHasAGlyphOfItsOwn) {
  std::set<Lines> seen;
  for (char c = '!'; c <= '~'; ++c) {
    EXPECT_TRUE(seen.insert(drawn(std::string(1, c))).second) << c;
    EXPECT_NE(drawn(std::string(1, c)), drawn("\u00fc")) << c;
  }
  EXPECT_EQ(drawn(" "), Lines(9, "      "));
}

TEST(BitmapFont, LargerLettersAreTheSameAndTheEdgeCutsThem) {
  Tensor pixels = plain(12, 9, 255);
  draw_text_(pixels, 0, 0, "LL", {.scale = 2, .ink = {1, 2, 3}});
  EXPECT_EQ(pixels[11][0][0].item<int>(), 1);
  EXPECT_EQ(pixels[11][1][2].item<int>(), 3);
  EXPECT_EQ(pixels[11][2][0].item<int>(), 255);
}

TEST(BrokenIntoLines, BreaksAtSpacesAndSaysWhatIsCut) {
  EXPECT_EQ(broken_into_lines("", 5, 3), Lines{});
  EXPECT_EQ(broken_into_lines("a red house", 5, 3), (Lines{"a red", "house"}));
  EXPECT_EQ(broken_into_lines("abcdefgh", 5, 3), (Lines{"abcde", "fgh"}));
  EXPECT_EQ(broken_into_lines("a red house by the sea", 5, 2), (Lines{"a red", "ho..."}));
  EXPECT_EQ(broken_into_lines("\u00fc\u00fc\u00fc\u00fc", 3, 3),
            (Lines{"\u00fc\u00fc\u00fc", "\u00fc"}));
  EXPECT_EQ(broken_into_lines("a\nb", 10, 1), Lines{"a\\nb"});
}

TEST(PictureTable, FitsPictures) {
  const auto fits = [](int64_t width, int64_t height, int64_t side) {
    const PictureSize size = fitted_size({width, height}, side);
    return std::pair(size.width, size.height);
  };
  EXPECT_EQ(fits(512, 512, 256), std::pair(256L, 256L));
  EXPECT_EQ(fits(1024, 512, 256), std::pair(256L, 128L));
  EXPECT_EQ(fits(64, 48, 256), std::pair(256L, 192L));
  EXPECT_EQ(fits(200, 100, 256), std::pair(200L, 100L));
  EXPECT_EQ(fits(8, 8, 256), std::pair(32L, 32L));  // at most four times
  EXPECT_EQ(fits(4000, 1, 100), std::pair(100L, 1L));
  const Tensor enlarged = fitted(plain(2, 3, 7), 6);
  EXPECT_EQ(enlarged.sizes(), (std::vector<int64_t>{4, 6, 3}));
  EXPECT_TRUE((enlarged == 7).all().item<bool>());
  EXPECT_EQ(fitted(plain(64, 128, 9), 32).sizes(), (std::vector<int64_t>{16, 32, 3}));
}

TEST(PictureTable, PutsCellsInRowsWithLabels) {
  PictureTable table{.num_columns = 2};
  table.cells = {
      {.pixels = plain(100, 120, 10)}, {.pixels = plain(60, 120, 20)}, {.text = "failed"}};
  const Tensor bare = draw_table(table);
  EXPECT_EQ(bare.sizes(), (std::vector<int64_t>{8 + 2 * 108, 8 + 2 * 128, 3}));
  EXPECT_EQ(bare[8][8][0].item<int>(), 10);
  EXPECT_EQ(bare[107][127][0].item<int>(), 10);
  EXPECT_EQ(bare[8][136][0].item<int>(), 20);
  EXPECT_EQ(bare[70][136][0].item<int>(), 255);   // below the smaller picture
  EXPECT_EQ(bare[200][100][0].item<int>(), 236);  // no picture
  EXPECT_EQ(bare[200][200][0].item<int>(), 255);  // no cell
  table.cells[0].label = "one";
  table.column_labels = {"left", "right"};
  table.row_labels = {"upper", "lower row"};
  table.title = "a title";
  const Tensor full = draw_table(table);
  EXPECT_EQ(full.size(0), 8 + 11 + 8 + 11 + 2 * (108 + 11));
  EXPECT_EQ(full.size(1), 8 + 9 * 6 + 8 + 2 * 128);
}

TEST(PictureTable, SheetsFitAPng) {
  EXPECT_EQ(sheet_cell_side(1), 256);
  EXPECT_EQ(sheet_cell_side(5000), 69);
  EXPECT_EQ(sheet_columns(0), 1);
  EXPECT_EQ(sheet_columns(1), 1);
  EXPECT_EQ(sheet_columns(6), 3);
  for (const int64_t count : {1, 7, 366, 5000, 10000}) {
    const int64_t columns = sheet_columns(count);
    EXPECT_GE(columns * ((count + columns - 1) / columns), count);
  }
  PictureTable table{.num_columns = 200};
  table.cells.resize(200);
  expect_error<InputError>([&] { draw_table(table); }, {"200 cells", "16384"});
}

}  // namespace
}  // namespace molar
