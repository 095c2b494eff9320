/// Small text helpers of the command line: suggestions, and texts that are safe to print.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molar::cli {

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate that `word` most likely meant; nullopt where none is near.
std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string>& candidates);

/// "; did you mean 'x'?", or "" where nothing is near.
std::string suggestion(std::string_view word, const std::vector<std::string>& candidates);

/// Text of foreign files for a terminal: valid UTF-8, control characters but line breaks and tabs
/// as '?'.
std::string printable(std::string_view text);

}  // namespace molar::cli
