#include "bitmap_font.h"

#include <ATen/ATen.h>

#include "molar/core/text.h"

namespace molar {
namespace {

constexpr size_t kGlyphsPerBand = 12, kGlyphRows = 9, kGlyphColumns = 5;

// Space to '~' and the box for everything else, twelve glyphs beside each other, drawn for molar.
// The baseline is below the seventh row.
// clang-format off
constexpr std::string_view kDrawing[] = {
    "        #    # #   # #    #   ##  #  ##     #      #   #               ",
    "        #    # #   # #   #### ##  # #  #    #     #     #   # # #   #  ",
    "        #    # #  ##### # #      #  # #    #     #       #   ###    #  ",
    "        #          # #   ###    #    #           #       #    #   #####",
    "        #         #####   # #  #    # # #        #       #   ###    #  ",
    "                   # #  ####  #  ## #  #          #     #   # # #   #  ",
    "        #          # #    #   #  ##  ## #          #   #               ",
    "                                                                       ",
    "                                                                       ",
    "                      #  ###    #    ###   ###     #  #####   ##  #####",
    "                      # #   #  ##   #   # #   #   ##  #      #        #",
    "                     #  #  ## # #       #     #  # #  ####  #        # ",
    "      #####         #   # # #   #      #    ##  #  #      # ####     # ",
    "                   #    ##  #   #     #       # #####     # #   #   #  ",
    "  #          ##   #     #   #   #    #    #   #    #  #   # #   #   #  ",
    "  #          ##   #      ###  ##### #####  ###     #   ###   ###    #  ",
    " #                                                                     ",
    "                                                                       ",
    " ###   ###                                 ###   ###    #   ####   ### ",
    "#   # #   #                ##       ##    #   # #   #  # #  #   # #   #",
    "#   # #   #  ##    ##    ##   #####   ##      # # ### #   # #   # #    ",
    " ###   ####  ##    ##   #               #   ##  # # # #   # ####  #    ",
    "#   #     #              ##   #####   ##    #   # ### ##### #   # #    ",
    "#   #    #   ##    ##      ##       ##          #     #   # #   # #   #",
    " ###   ##    ##    ##                       #    ###  #   # ####   ### ",
    "                   #                                                   ",
    "                                                                       ",
    "###   ##### #####  ###  #   #  ###    ### #   # #     #   # #   #  ### ",
    "#  #  #     #     #   # #   #   #      #  #  #  #     ## ## ##  # #   #",
    "#   # #     #     #     #   #   #      #  # #   #     # # # ##  # #   #",
    "#   # ####  ####  #  ## #####   #      #  ##    #     # # # # # # #   #",
    "#   # #     #     #   # #   #   #      #  # #   #     #   # #  ## #   #",
    "#  #  #     #     #   # #   #   #   #  #  #  #  #     #   # #  ## #   #",
    "###   ##### #      #### #   #  ###   ##   #   # ##### #   # #   #  ### ",
    "                                                                       ",
    "                                                                       ",
    "####   ###  ####   #### ##### #   # #   # #   # #   # #   # #####  ### ",
    "#   # #   # #   # #       #   #   # #   # #   # #   # #   #     #  #   ",
    "#   # #   # #   # #       #   #   # #   # #   #  # #   # #     #   #   ",
    "####  #   # ####   ###    #   #   # #   # # # #   #     #     #    #   ",
    "#     # # # # #       #   #   #   #  # #  # # #  # #    #    #     #   ",
    "#     #  #  #  #      #   #   #   #  # #  ## ## #   #   #   #      #   ",
    "#      ## # #   # ####    #    ###    #   #   # #   #   #   #####  ### ",
    "                                                                       ",
    "                                                                       ",
    "#      ###    #          #          #               #         ##       ",
    "#        #   # #          #         #               #        #         ",
    " #       #  #   #          #   ###  ####   ####  ####  ###  ####   ####",
    "  #      #                        # #   # #     #   # #   #  #    #   #",
    "   #     #                     #### #   # #     #   # #####  #    #   #",
    "    #    #                    #   # #   # #     #   # #      #    #   #",
    "    #  ###                     #### ####   ####  ####  ####  #     ####",
    "                  #####                                               #",
    "                                                                   ### ",
    "#       #      #  #      ##                                            ",
    "#                 #       #                                            ",
    "####   ##     ##  #  #    #   ## #  ####   ###  ####   #### # ##   ####",
    "#   #   #      #  # #     #   # # # #   # #   # #   # #   # ##  # #    ",
    "#   #   #      #  ##      #   # # # #   # #   # #   # #   # #      ### ",
    "#   #   #      #  # #     #   # # # #   # #   # #   # #   # #         #",
    "#   #  ###     #  #  #   ###  # # # #   #  ###  ####   #### #     #### ",
    "            #  #                                #         #            ",
    "             ##                                 #         #            ",
    " #                                           ##   #   ##          #####",
    " #                                          #     #     #         #   #",
    "####  #   # #   # #   # #   # #   # #####   #     #     #    #  # #   #",
    " #    #   # #   # # # #  # #  #   #    #   #      #      #  # # # #   #",
    " #    #   # #   # # # #   #   #   #   #     #     #     #   #  #  #   #",
    " #    #   #  # #  # # #  # #  #   #  #      #     #     #         #   #",
    "  ##   ####   #    # #  #   #  #### #####    ##   #   ##          #####",
    "                                  #               #                    ",
    "                               ###                                     "
};
// clang-format on

constexpr size_t kBox = 95;
static_assert(std::size(kDrawing) == (kBox + 1) / kGlyphsPerBand * kGlyphRows);

bool is_ink(size_t glyph, size_t row, size_t column) {
  const size_t band = glyph / kGlyphsPerBand, place = glyph % kGlyphsPerBand;
  return kDrawing[band * kGlyphRows + row][place * (kGlyphColumns + 1) + column] == '#';
}

/// A glyph for each code point of valid UTF-8.
std::vector<size_t> glyphs_of(std::string_view text) {
  std::vector<size_t> glyphs;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0U) == 0x80U) continue;  // belongs to the code point before
    glyphs.push_back(byte >= ' ' && byte <= '~' ? byte - ' ' : kBox);
  }
  return glyphs;
}

/// The first `count` code points.
std::string_view first_letters(std::string_view text, size_t count) {
  size_t end = 0;
  for (; end < text.size(); ++end)
    if ((static_cast<unsigned char>(text[end]) & 0xC0U) != 0x80U && count-- == 0) break;
  return text.substr(0, end);
}

}  // namespace

int64_t text_width(std::string_view text) {
  return std::ssize(glyphs_of(valid_utf8(text))) * kLetterWidth;
}

std::vector<std::string> broken_into_lines(std::string_view text, int64_t num_letters,
                                           int64_t num_lines) {
  const auto most = static_cast<size_t>(std::max<int64_t>(num_letters, 1));
  std::string rest = one_line(text, text.size() * 4 + 1);
  std::vector<std::string> lines;
  while (!rest.empty() && std::ssize(lines) < num_lines) {
    const std::string_view fits = first_letters(rest, most);
    if (fits.size() == rest.size()) {
      lines.push_back(rest);
      return lines;
    }
    // A line ends at its last space, unless that leaves it half empty.
    size_t end = rest[fits.size()] == ' ' ? fits.size() : fits.rfind(' ');
    if (end == std::string_view::npos || end < fits.size() / 2) end = fits.size();
    lines.push_back(rest.substr(0, end));
    rest.erase(0, rest[end] == ' ' ? end + 1 : end);
  }
  if (!rest.empty() && !lines.empty()) {
    const size_t dots = std::min<size_t>(3, most);
    lines.back() = std::string(first_letters(lines.back(), most - dots)) + std::string(dots, '.');
  }
  return lines;
}

void draw_text_(Tensor& pixels, int64_t x, int64_t y, std::string_view text,
                const TextStyle& style) {
  int64_t left = x;
  for (const size_t glyph : glyphs_of(valid_utf8(text))) {
    for (size_t row = 0; row < kGlyphRows; ++row)
      for (size_t column = 0; column < kGlyphColumns; ++column) {
        if (!is_ink(glyph, row, column)) continue;
        const int64_t top = y + static_cast<int64_t>(row) * style.scale;
        const int64_t start = left + static_cast<int64_t>(column) * style.scale;
        for (int64_t i = top; i < std::min(top + style.scale, pixels.size(0)); ++i)
          for (int64_t j = start; j < std::min(start + style.scale, pixels.size(1)); ++j)
            std::copy(style.ink.begin(), style.ink.end(),
                      pixels.mutable_data_ptr<uint8_t>() + (i * pixels.size(1) + j) * 3);
      }
    left += kLetterWidth * style.scale;
  }
}

}  // namespace molar
