/// `molar generate`: options -> request -> pictures.
#pragma once

#include "command.h"
#include "generate_options.h"
#include "molar/core/log.h"

namespace molar::cli {

CommandHelp generate_help();

/// Draws what `options` ask for (or prints the plan). Throws molar's errors; see DESIGN for exit
/// codes.
void run_generate(const GenerateOptions& options, const LogSession& log);

}  // namespace molar::cli
