/// Many pictures in one: contact sheets and grids with labels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "molar/core/tensor.h"

namespace molar {

struct TableCell {
  Tensor pixels;      ///< uint8 [H, W, 3]; undefined: there is no picture, and `text` says why
  std::string label;  ///< under the picture; empty: none
  std::string text;   ///< in place of the picture
};

/// Labels show ASCII; other characters are boxes.
struct PictureTable {
  std::vector<TableCell> cells;  ///< row by row; the last row may be short
  int64_t num_columns = 1;
  std::vector<std::string> column_labels, row_labels;  ///< empty: none
  std::string title;                                   ///< above all; empty: none
  int64_t max_label_lines = 3;                         ///< of a cell
};

/// Width and height in pixels.
struct PictureSize {
  int64_t width = 0, height = 0;
};

/// `size` scaled to fit a square of `side` pixels: larger ones are scaled down, smaller ones are
/// enlarged by a whole factor, at most 4.
PictureSize fitted_size(PictureSize size, int64_t side);
/// pixels: uint8 [H, W, 3], resized to fitted_size.
Tensor fitted(const Tensor& pixels, int64_t side);

/// Cells of one size, that of the largest picture, with a gap between them, on white. Returns uint8
/// [H, W, 3]. Throws InputError where that would pass what a PNG reader takes (16384 a side).
Tensor draw_table(const PictureTable& table);

/// The side of cells with which `count` pictures make a sheet that a screen and a PNG reader take:
/// 256, less where there are many, at least 32.
int64_t sheet_cell_side(int64_t count);
/// Columns that make the sheet about as wide as a screen.
int64_t sheet_columns(int64_t count);

}  // namespace molar
