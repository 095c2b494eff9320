/// Where in a text something stands, for messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace molar {

/// Both from 1. Columns count characters (code points), as editors do.
struct TextPosition {
  int64_t line = 1, column = 1;
  bool operator==(const TextPosition&) const = default;

  /// Moves past one byte of UTF-8. A line ends with LF, CR LF or CR; `next` is the byte behind it.
  void advance(char byte, char next) {
    if (byte == '\n' || (byte == '\r' && next != '\n')) {
      ++line;
      column = 1;
    } else if ((static_cast<unsigned char>(byte) & 0xC0) != 0x80) {
      ++column;
    }
  }
};

/// "prompts.csv:3:7".
std::string place(const std::string& source, const TextPosition& position);

/// Throws InputError at the first byte that no UTF-8 text has, or at a NUL; says so of UTF-16.
void require_utf8(std::string_view text, const std::string& source);

}  // namespace molar
