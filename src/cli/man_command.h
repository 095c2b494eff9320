/// `molar man`: the manual page, on standard output.
#pragma once

#include <CLI/CLI.hpp>

#include "command.h"
#include "option_tree.h"

namespace molar::cli {

struct ManOptions {
  RunOptions run;  ///< none is registered
};

CLI::App* register_man(CLI::App& program);
CommandHelp man_help();
void run_man(const OptionTree& tree);

}  // namespace molar::cli
