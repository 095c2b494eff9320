/// What the program knows of a subcommand.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "molar/core/log.h"
#include "run_options.h"

namespace molar::cli {

/// Words for its help beside what its options say themselves.
struct CommandHelp {
  std::string usage;  ///< after the command's name
  std::vector<std::string> examples;
  std::vector<std::string> common_options;  ///< long names that the short help (-h) shows
};

/// "generate", "train lora": what follows "molar" on the command line.
std::string command_name(const CLI::App& app);

struct Command {
  CLI::App* app;
  const RunOptions* run_options;
  CommandHelp help;
  /// Long names that neither the environment nor a config file may set now; asked after the flags
  /// are read.
  std::function<std::set<std::string>()> held_options;
  /// Does the work. Throws; only app.cpp knows exit codes.
  std::function<void(const LogSession&)> run;
};

}  // namespace molar::cli
