/// Comma-separated values as RFC 4180 has them, read strictly; every cell knows where it stands.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "molar/io/text_position.h"

namespace molar {

struct CsvCell {
  std::string text;       ///< without its quotes
  TextPosition position;  ///< of its first character, the opening quote included
};

using CsvRow = std::vector<CsvCell>;

/// `text`: UTF-8, without a byte order mark. Rows end with LF, CR LF or CR; empty lines are no
/// rows; spaces belong to their cell. Throws InputError "<source>:<line>:<column>: ...": a quote
/// inside an unquoted cell, text behind a closing quote, a quote that nothing closes.
std::vector<CsvRow> parse_csv(std::string_view text, const std::string& source);

}  // namespace molar
