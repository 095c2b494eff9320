/// `molar batch`: a list of rows -> a folder of pictures, whatever happens on the way.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "generate_options.h"
#include "molar/core/log.h"
#include "molar/io/prompt_list.h"
#include "molar/pipeline/batch_folder.h"
#include "row_drawing.h"

namespace molar::cli {

struct BatchCommandOptions {
  GenerateOptions defaults;        ///< what rows inherit, and how it is run
  std::vector<std::string> files;  ///< one list, "-" for standard input
  std::optional<PromptListFormat> format;
  std::vector<std::string> ignored_columns;
  std::optional<Shard> shard;
  DrawingOptions speed;
  bool fail_fast = false;
  std::optional<std::filesystem::path> status;
};

/// `options` must outlive the parse.
CLI::App* register_batch(CLI::App& program, BatchCommandOptions& options);
CommandHelp batch_help();

/// Draws what is missing, or prints the plan or the status. Throws molar's errors; exit code 8
/// where rows failed.
void run_batch(const BatchCommandOptions& options, const LogSession& log);

}  // namespace molar::cli
