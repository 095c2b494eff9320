#include "molar/io/text_position.h"

#include <fmt/format.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/core/text.h"

namespace molar {

std::string place(const std::string& source, const TextPosition& position) {
  return fmt::format("{}:{}:{}", source, position.line, position.column);
}

void require_utf8(std::string_view text, const std::string& source) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"))
    throw InputError(
        fmt::format("{}: the file is UTF-16; save it as UTF-8", place(source, TextPosition{})));
  const std::string valid = valid_utf8(text);
  const size_t wrong = std::min(
      static_cast<size_t>(std::ranges::mismatch(text, valid).in1 - text.begin()), text.find('\0'));
  if (wrong >= text.size()) return;
  TextPosition position;
  for (size_t i = 0; i < wrong; ++i) position.advance(text[i], text[i + 1]);
  throw InputError(
      text[wrong] == '\0'
          ? fmt::format("{}: a NUL byte; wanted text", place(source, position))
          : fmt::format("{}: byte 0x{:02X} is no UTF-8; save the file as UTF-8 (it may be Latin-1)",
                        place(source, position), static_cast<unsigned char>(text[wrong])));
}

}  // namespace molar
