#include "molar/evaluation/picture_table.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bitmap_font.h"
#include "molar/core/error.h"
#include "molar/io/image.h"

namespace molar {
namespace {

constexpr int64_t kGap = 8, kMaxSide = 16384, kMaxEnlargement = 4;
constexpr int64_t kSmallestCell = 96;   // pixels; narrower ones could not hold a label
constexpr int64_t kLargeLetters = 200;  // cells as wide get letters of twice the size
constexpr double kSheetPixels = 24e6;   // of a contact sheet's cells
constexpr double kScreen = 1.5;         // width by height
constexpr int64_t kMaxLabelLines = 3;
constexpr int64_t kMaxRowLabelLetters = 28;
constexpr uint8_t kWhite = 255, kAbsent = 236;
constexpr std::array<uint8_t, 3> kInk = {30, 30, 30}, kQuiet = {160, 30, 30};

using Lines = std::vector<std::string>;

/// Where everything of a table lies, in pixels.
class TableLayout {
 public:
  explicit TableLayout(const PictureTable& table) {
    cell = {kSmallestCell, 0};
    for (const TableCell& one : table.cells)
      if (one.pixels.defined()) {
        cell.width = std::max(cell.width, one.pixels.size(1));
        cell.height = std::max(cell.height, one.pixels.size(0));
      }
    if (cell.height == 0) cell.height = cell.width;
    scale = cell.width >= kLargeLetters ? 2 : 1;
    letters = cell.width / (kLetterWidth * scale);
    num_rows = (std::ssize(table.cells) + table.num_columns - 1) / table.num_columns;
    for (const TableCell& one : table.cells) {
      labels.push_back(broken_into_lines(one.label, letters, table.max_label_lines));
      label_lines = std::max(label_lines, std::ssize(labels.back()));
    }
    for (const std::string& label : table.column_labels) {
      heads.push_back(broken_into_lines(label, letters, kMaxLabelLines));
      head_lines = std::max(head_lines, std::ssize(heads.back()));
    }
    for (const std::string& label : table.row_labels) {
      sides.push_back(broken_into_lines(label, kMaxRowLabelLetters, 2 * kMaxLabelLines));
      for (const std::string& line : sides.back())
        side_width = std::max(side_width, text_width(line) * scale + kGap);
    }
    width = kGap + side_width + table.num_columns * (cell.width + kGap);
    if (!table.title.empty()) {
      title = broken_into_lines(table.title, (width - 2 * kGap) / (kLetterWidth * scale),
                                kMaxLabelLines);
      title_height = height_of(std::ssize(title)) + kGap;
    }
    height = kGap + title_height + height_of(head_lines) + num_rows * row_height();
  }

  int64_t height_of(int64_t lines) const { return lines * kLineHeight * scale; }
  int64_t row_height() const { return cell.height + height_of(label_lines) + kGap; }
  int64_t x_of(int64_t column) const { return kGap + side_width + column * (cell.width + kGap); }
  int64_t y_of(int64_t row) const {
    return kGap + title_height + height_of(head_lines) + row * row_height();
  }

  PictureSize cell;
  int64_t scale = 1, letters = 1, num_rows = 0;
  int64_t width = 0, height = 0, title_height = 0, side_width = 0;
  int64_t label_lines = 0, head_lines = 0;
  Lines title;
  std::vector<Lines> labels, heads, sides;
};

class TablePainter {
 public:
  TablePainter(const PictureTable& table, const TableLayout& layout)
      : table_(table),
        layout_(layout),
        canvas_(at::full({layout.height, layout.width, 3}, kWhite, at::kByte)) {}

  Tensor paint() {
    write(layout_.title, kGap, kGap, kInk);
    for (size_t i = 0; i < layout_.heads.size(); ++i)
      write(layout_.heads[i], layout_.x_of(static_cast<int64_t>(i)), kGap + layout_.title_height,
            kInk);
    for (size_t i = 0; i < layout_.sides.size(); ++i) {
      const int64_t lines = layout_.height_of(std::ssize(layout_.sides[i]));
      write(layout_.sides[i], kGap,
            layout_.y_of(static_cast<int64_t>(i)) +
                std::max<int64_t>(0, (layout_.cell.height - lines) / 2),
            kInk);
    }
    for (size_t i = 0; i < table_.cells.size(); ++i) paint_cell(i);
    return canvas_;
  }

 private:
  void write(const Lines& lines, int64_t x, int64_t y, const std::array<uint8_t, 3>& ink) {
    for (const std::string& line : lines) {
      draw_text_(canvas_, x, y, line, {.scale = layout_.scale, .ink = ink});
      y += kLineHeight * layout_.scale;
    }
  }

  Tensor area(int64_t x, int64_t y, int64_t width, int64_t height) {
    return canvas_.narrow(0, y, height).narrow(1, x, width);
  }

  void paint_cell(size_t index) {
    const TableCell& cell = table_.cells[index];
    const auto i = static_cast<int64_t>(index);
    const int64_t x = layout_.x_of(i % table_.num_columns),
                  y = layout_.y_of(i / table_.num_columns);
    if (cell.pixels.defined()) {
      const int64_t height = cell.pixels.size(0), width = cell.pixels.size(1);
      area(x, y, width, height).copy_(cell.pixels);
    } else {
      area(x, y, layout_.cell.width, layout_.cell.height).fill_(kAbsent);
      const int64_t lines =
          std::max<int64_t>(1, (layout_.cell.height - kGap) / layout_.height_of(1));
      write(broken_into_lines(cell.text, layout_.letters - 1, lines), x + kGap / 2, y + kGap / 2,
            kQuiet);
    }
    write(layout_.labels[index], x, y + layout_.cell.height + 2 * layout_.scale, kInk);
  }

  const PictureTable& table_;
  const TableLayout& layout_;
  Tensor canvas_;  // uint8 [H, W, 3]
};

}  // namespace

PictureSize fitted_size(PictureSize size, int64_t side) {
  const int64_t longer = std::max(size.width, size.height);
  if (longer <= side) {
    const int64_t factor = std::min(side / longer, kMaxEnlargement);
    return {size.width * factor, size.height * factor};
  }
  const auto scaled = [&](int64_t length) {
    return std::max<int64_t>(1, (length * side + longer / 2) / longer);
  };
  return {scaled(size.width), scaled(size.height)};
}

Tensor fitted(const Tensor& pixels, int64_t side) {
  const int64_t height = pixels.size(0), width = pixels.size(1);
  const PictureSize size = fitted_size({width, height}, side);
  if (size.width >= width) {
    const int64_t factor = size.width / width;
    return pixels.repeat_interleave(factor, 0).repeat_interleave(factor, 1);
  }
  return resize(pixels, size.height, size.width);
}

Tensor draw_table(const PictureTable& table) {
  const TableLayout layout(table);
  if (layout.width > kMaxSide || layout.height > kMaxSide)
    throw InputError(fmt::format(
        "a sheet of {} cells of {} x {} pixels would have {} x {}; the most is {} a side",
        table.cells.size(), layout.cell.width, layout.cell.height, layout.width, layout.height,
        kMaxSide));
  return TablePainter(table, layout).paint();
}

int64_t sheet_cell_side(int64_t count) {
  const double side = std::sqrt(kSheetPixels / static_cast<double>(std::max<int64_t>(count, 1)));
  return std::clamp(static_cast<int64_t>(side), int64_t{32}, int64_t{256});
}

int64_t sheet_columns(int64_t count) {
  const auto columns =
      static_cast<int64_t>(std::ceil(std::sqrt(kScreen * static_cast<double>(count))));
  return std::clamp<int64_t>(columns, 1, std::max<int64_t>(count, 1));
}

}  // namespace molar
