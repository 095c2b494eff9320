/// Letters for labels in pictures: ASCII, in a font of 5 x 9 pixels that was drawn for molar. Any
/// other character is a box; the whole text stands in the page beside the picture.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "molar/core/tensor.h"

namespace molar {

/// Pixels from one letter to the next, and from one line to the next, at scale 1.
inline constexpr int64_t kLetterWidth = 6, kLineHeight = 11;

struct TextStyle {
  int64_t scale = 1;  ///< whole: letters of 5 x 9 times this many pixels
  std::array<uint8_t, 3> ink = {0, 0, 0};
};

/// Pixels at scale 1, the gap behind the last letter included.
int64_t text_width(std::string_view text);

/// Lines of at most `num_letters`, broken at spaces where there are any; what passes `num_lines` is
/// cut, and "..." says so.
std::vector<std::string> broken_into_lines(std::string_view text, int64_t num_letters,
                                           int64_t num_lines);

/// One line, its upper left corner at (x, y) >= 0; what passes the right or lower edge is left out.
/// pixels: uint8 [H, W, 3], contiguous.
void draw_text_(Tensor& pixels, int64_t x, int64_t y, std::string_view text,
                const TextStyle& style);

}  // namespace molar
