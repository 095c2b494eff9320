/// The program: command line -> command -> exit code.
#pragma once

#include <string>
#include <vector>

namespace molar::cli {

/// `arguments` without the program's name. Returns the exit code of DESIGN's table; prints one line
/// "error: ..." on standard error where it is not 0. Never throws.
int run_program(std::vector<std::string> arguments);

}  // namespace molar::cli
