/// Completion for shells, as scripts that hold every command, option and value: nothing is asked
/// while somebody types.
#pragma once

#include <string>

#include "option_tree.h"

namespace molar::cli {

std::string bash_completion(const OptionTree& tree);
std::string zsh_completion(const OptionTree& tree);
std::string fish_completion(const OptionTree& tree);

}  // namespace molar::cli
