#include "unicode_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "molar/core/error.h"

namespace molar {
namespace {

utf8proc_int32_t code(char32_t character) { return static_cast<utf8proc_int32_t>(character); }

int combining_class(char32_t character) {
  return utf8proc_get_property(code(character))->combining_class;
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// Canonical decomposition. utf8proc_decompose would reorder marks in quadratic time, which a long
/// run of marks turns into minutes; sorting each run is the same order.
std::u32string decompose(std::u32string_view text) {
  std::u32string decomposed;
  for (const char32_t character : text) {
    std::array<utf8proc_int32_t, 8> parts;  // Unicode's longest canonical decomposition has 4
    int boundary_class = 0;
    const auto count = utf8proc_decompose_char(
        code(character), parts.data(), parts.size(),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), &boundary_class);
    for (utf8proc_ssize_t i = 0; i < count; ++i)
      decomposed.push_back(static_cast<char32_t>(parts[static_cast<size_t>(i)]));
  }
  const auto is_mark = [](char32_t c) { return combining_class(c) != 0; };
  for (auto mark = decomposed.begin(); mark != decomposed.end();) {
    mark = std::find_if(mark, decomposed.end(), is_mark);
    const auto end = std::find_if_not(mark, decomposed.end(), is_mark);
    std::stable_sort(
        mark, end, [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    mark = end;
  }
  return decomposed;
}

std::u32string to_nfc(std::u32string_view text) {
  constexpr char32_t kFirstCombining = 0x300;  // below it NFC changes nothing
  if (std::ranges::all_of(text, [](char32_t c) { return c < kFirstCombining; }))
    return std::u32string(text);
  const std::u32string decomposed = decompose(text);
  std::vector<utf8proc_int32_t> buffer(decomposed.begin(), decomposed.end());
  const auto length =
      utf8proc_normalize_utf32(buffer.data(), static_cast<utf8proc_ssize_t>(buffer.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) throw Error(fmt::format("internal: NFC failed: {}", utf8proc_errmsg(length)));
  return {buffer.begin(), buffer.begin() + length};
}

}  // namespace

std::u32string decode_utf8(std::string_view text) {
  std::u32string decoded;
  decoded.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    utf8proc_int32_t character = 0;
    const auto length =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + position,
                         static_cast<utf8proc_ssize_t>(text.size() - position), &character);
    if (length < 1)
      throw InputError(
          fmt::format("text is not UTF-8: byte {} (0x{:02X}) starts no valid character", position,
                      static_cast<unsigned char>(text[position])));
    decoded.push_back(static_cast<char32_t>(character));
    position += static_cast<size_t>(length);
  }
  return decoded;
}

std::string encode_utf8(std::u32string_view text) {
  std::string encoded;
  encoded.reserve(text.size());
  for (const char32_t character : text) {
    std::array<utf8proc_uint8_t, 4> bytes;
    const auto length = utf8proc_encode_char(code(character), bytes.data());
    encoded.append(bytes.begin(), bytes.begin() + length);
  }
  return encoded;
}

std::u32string normalize_for_clip(std::u32string_view text) {
  std::u32string normalized;
  normalized.reserve(text.size());
  for (const char32_t character : to_nfc(text)) {
    if (is_white_space(character)) {
      if (normalized.empty() || normalized.back() != U' ') normalized.push_back(U' ');
    } else if (character == 0x130) {  // the one character whose lower case is two code points
      normalized += U"i\u0307";
    } else {
      normalized.push_back(static_cast<char32_t>(utf8proc_tolower(code(character))));
    }
  }
  return normalized;
}

CharacterClass character_class(char32_t character) {
  if (is_white_space(character)) return CharacterClass::kSpace;
  switch (utf8proc_category(code(character))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharacterClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharacterClass::kNumber;
    default:
      return CharacterClass::kOther;
  }
}

}  // namespace molar
