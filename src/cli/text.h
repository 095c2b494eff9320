/// Small text helpers of the command line: suggestions, and lines that are safe to print.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molar::cli {

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate that `word` most likely meant; nullopt where none is near.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

/// "; did you mean 'x'?", or "" where nothing is near.
std::string suggestion(std::string_view word, const std::vector<std::string>& candidates);

/// `text` on one line: line breaks become spaces, other control characters '?', so that the names and
/// metadata of foreign files cannot move the terminal's cursor.
std::string one_line(std::string_view text);

/// The same, but line breaks stay.
std::string printable(std::string_view text);

bool is_utf8(std::string_view text);

}  // namespace molar::cli
