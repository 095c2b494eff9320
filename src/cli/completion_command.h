/// `molar completion bash|zsh|fish`: a shell's script, on standard output.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "command.h"
#include "option_tree.h"

namespace molar::cli {

struct CompletionOptions {
  std::vector<std::string> shells;  ///< one
  RunOptions run;                   ///< none is registered
};

/// `options` must outlive the parse.
CLI::App* register_completion(CLI::App& program, CompletionOptions& options);
CommandHelp completion_help();

/// Throws ConfigError for another shell.
void run_completion(const CompletionOptions& options, const OptionTree& tree);

}  // namespace molar::cli
