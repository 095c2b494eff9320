/// The help texts. CLI11's own formatter knows neither examples nor a short form.
#pragma once

#include <string>

#include "option_tree.h"

namespace molar::cli {

/// `molar -h`: examples and the commands.
std::string program_help(const OptionTree& tree);
/// `molar COMMAND -h`: examples and the common options.
std::string short_help(const CommandEntry& command);
/// `molar COMMAND --help`: every option, grouped.
std::string full_help(const CommandEntry& command);

}  // namespace molar::cli
