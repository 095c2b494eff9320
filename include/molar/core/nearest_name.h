/// What a mistyped name most likely meant.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molar {

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate that `word` most likely meant; nullopt where none is near.
std::optional<std::string> nearest_name(std::string_view word,
                                        const std::vector<std::string>& candidates);

/// "; did you mean 'x'?", or "" where nothing is near.
std::string suggestion(std::string_view word, const std::vector<std::string>& candidates);
/// The same where a sentence ends: "." where nothing is near.
std::string suggestion_or_stop(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace molar
