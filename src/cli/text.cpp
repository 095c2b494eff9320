#include "text.h"

#include "molar/core/text.h"

namespace molar::cli {

std::string printable(std::string_view text) {
  std::string out = valid_utf8(text);
  for (size_t i = 0; i < out.size(); ++i) {
    const auto byte = static_cast<unsigned char>(out[i]);
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) out[i] = '?';
    // U+0080 to U+009F: terminals obey some of them as they obey ESC sequences.
    if (byte == 0xC2 && static_cast<unsigned char>(out[i + 1]) < 0xA0) out.replace(i, 2, "?");
  }
  return out;
}

}  // namespace molar::cli
