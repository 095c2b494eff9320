/// Text that came from outside, made safe to show and to store.
#pragma once

#include <string>
#include <string_view>

namespace molar {

/// Every byte that is not part of valid UTF-8 (overlong forms and surrogates too) becomes U+FFFD.
std::string valid_utf8(std::string_view text);

/// One line for a terminal: valid UTF-8, control characters written as \n, \t or \xNN, and cut with
/// "..." after `max_bytes`. Names from files may hold line breaks and escape sequences.
std::string one_line(std::string_view text, size_t max_bytes);

}  // namespace molar
