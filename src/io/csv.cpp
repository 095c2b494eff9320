#include "molar/io/csv.h"

#include <csv.h>
#include <fmt/format.h>

#include <new>

#include "molar/core/error.h"

namespace molar {
namespace {

/// libcsv in strict mode. It knows no positions, so it gets one byte at a time: what it reports
/// then ends at that byte, and the next cell starts behind it.
class CsvReader {
 public:
  explicit CsvReader(const std::string& source) : source_(source) {
    if (csv_init(&parser_, CSV_STRICT | CSV_STRICT_FINI) != 0) throw std::bad_alloc();
    csv_set_space_func(&parser_, [](unsigned char) { return 0; });  // spaces are text
  }
  ~CsvReader() { csv_free(&parser_); }
  CsvReader(const CsvReader&) = delete;
  CsvReader& operator=(const CsvReader&) = delete;

  std::vector<CsvRow> read(std::string_view text) {
    for (size_t i = 0; i < text.size(); ++i) {
      const char byte = text[i], next = i + 1 < text.size() ? text[i + 1] : '\0';
      const bool between_rows = row_.empty() && at_ == cell_.position;
      ended_ = between_rows && (byte == '\n' || byte == '\r');
      if (csv_parse(&parser_, &byte, 1, on_cell, on_row, this) != 1) fail(byte);
      at_.advance(byte, next);
      if (ended_) cell_.position = at_;
    }
    if (csv_fini(&parser_, on_cell, on_row, this) != 0) {
      if (csv_error(&parser_) != CSV_EPARSE) throw std::bad_alloc();
      throw InputError(fmt::format("{}: the quote that opens here is never closed",
                                   place(source_, cell_.position)));
    }
    return std::move(rows_);
  }

 private:
  static void on_cell(void* text, size_t size, void* self) {
    auto& reader = *static_cast<CsvReader*>(self);
    reader.cell_.text.assign(static_cast<const char*>(text), size);
    reader.row_.push_back(reader.cell_);
    reader.ended_ = true;
  }
  static void on_row(int, void* self) {
    auto& reader = *static_cast<CsvReader*>(self);
    reader.rows_.push_back(std::move(reader.row_));
    reader.row_.clear();
  }

  [[noreturn]] void fail(char byte) {
    if (csv_error(&parser_) != CSV_EPARSE) throw std::bad_alloc();
    throw InputError(fmt::format(
        "{}: {}", place(source_, at_),
        byte == '"' ? "a quote inside a cell without quotes; write the cell as \"...\" and the "
                      "quote twice"
                    : "text behind a closing quote; a quote inside a cell is written twice"));
  }

  const std::string& source_;
  csv_parser parser_{};
  TextPosition at_;  // of the byte that is read now
  CsvCell cell_;     // position: where the cell that is read now starts
  bool ended_ = false;
  CsvRow row_;
  std::vector<CsvRow> rows_;
};

}  // namespace

std::vector<CsvRow> parse_csv(std::string_view text, const std::string& source) {
  return CsvReader(source).read(text);
}

}  // namespace molar
