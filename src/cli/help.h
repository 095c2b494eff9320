/// The help texts. CLI11's own formatter knows neither examples nor a short form.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "command.h"

namespace molar::cli {

/// `molar -h`: examples and the commands.
std::string program_help(const std::vector<Command>& commands);
/// `molar COMMAND -h`: examples and the common options.
std::string short_help(const Command& command);
/// `molar COMMAND --help`: every option, grouped.
std::string full_help(const Command& command);

}  // namespace molar::cli
