/// Texts that are safe to print.
#pragma once

#include <string>
#include <string_view>

namespace molar::cli {

/// Text of foreign files for a terminal: valid UTF-8, control characters but line breaks and tabs
/// as '?'.
std::string printable(std::string_view text);

}  // namespace molar::cli
