#include "molar/core/text.h"

#include <fmt/format.h>

namespace molar {
namespace {

/// The length of the valid UTF-8 sequence at the start of `text`, 0 where there is none.
size_t sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead < 0xE0   ? 2
                        : lead >= 0xE0 && lead < 0xF0 ? 3
                        : lead >= 0xF0 && lead < 0xF5 ? 4
                                                      : 0;
  for (size_t i = 1; i < length; ++i)
    if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
  const bool overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xED && byte(1) >= 0xA0;
  const bool too_large = lead == 0xF4 && byte(1) >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t length = sequence_length(text);
    result += length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

std::string one_line(std::string_view text, size_t max_bytes) {
  std::string result;
  while (!text.empty()) {
    const size_t length = sequence_length(text);
    const auto code = static_cast<unsigned char>(text[0]);
    std::string piece(text.substr(0, length));
    if (length == 0)
      piece = fmt::format("\\x{:02x}", code);
    else if (code == '\n')
      piece = "\\n";
    else if (code == '\t')
      piece = "\\t";
    else if (length == 1 && (code < 0x20 || code == 0x7F))
      piece = fmt::format("\\x{:02x}", code);
    else if (code == 0xC2 &&
             static_cast<unsigned char>(text[1]) < 0xA0)  // C1: 0x9B starts sequences too
      piece = fmt::format("\\x{:02x}", static_cast<unsigned char>(text[1]));
    if (result.size() + piece.size() > max_bytes) return result + "...";
    result += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

}  // namespace molar
