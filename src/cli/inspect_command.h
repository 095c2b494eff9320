/// `molar inspect FILE...`: what a file is, told by its content.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "command.h"
#include "run_options.h"

namespace molar::cli {

struct InspectOptions {
  std::vector<std::string> files;
  RunOptions run;
};

/// `options` must outlive the parse.
CLI::App* register_inspect(CLI::App& program, InspectOptions& options);
CommandHelp inspect_help();

/// Prints a description of each file. With several, one that fails does not keep the others from
/// being described. Throws FileError for what is missing, broken, or neither model, LoRA nor
/// picture.
void run_inspect(const InspectOptions& options);

}  // namespace molar::cli
