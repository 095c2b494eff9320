/// `molar grid`: two options, a list of values each -> every pair drawn, and all in one picture.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "command.h"
#include "generate_options.h"
#include "molar/core/log.h"
#include "row_drawing.h"

namespace molar::cli {

struct GridCommandOptions {
  GenerateOptions defaults;         ///< what every cell has
  std::optional<std::string> x, y;  ///< NAME=VALUES
  DrawingOptions speed;
};

/// `options` must outlive the parse.
CLI::App* register_grid(CLI::App& program, GridCommandOptions& options);
CommandHelp grid_help();

/// Draws what is missing, then the grid and the report, or prints the plan. Throws molar's errors;
/// exit code 8 where cells failed.
void run_grid(const GridCommandOptions& options, const LogSession& log);

}  // namespace molar::cli
