/// Unicode as CLIP's tokenizer needs it: code points, normal form, case, four classes of
/// characters.
#pragma once

#include <string>
#include <string_view>

namespace molar {

/// UTF-8 -> code points. Throws InputError with the position of the first byte that is not UTF-8.
std::u32string decode_utf8(std::string_view text);
std::string encode_utf8(std::u32string_view text);

/// NFC, then every run of white space as one space, then lower case by code point (without context:
/// a final sigma is like any other).
std::u32string normalize_for_clip(std::u32string_view text);

/// What CLIP's pre-tokenizer tells apart: \s, \p{L}, \p{N} and the rest.
enum class CharacterClass { kSpace, kLetter, kNumber, kOther };
CharacterClass character_class(char32_t character);

}  // namespace molar
