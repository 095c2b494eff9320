/// `molar eval RUN_DIR...`: how like pictures are to what they are meant to show.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "machine_options.h"
#include "molar/core/atomic_file.h"
#include "molar/core/log.h"
#include "run_options.h"

namespace molar::cli {

/// Unset means: not measured, or the default that the help names.
struct EvalOptions {
  std::vector<std::string> folders;
  std::optional<std::string> layout, baseline;
  std::optional<std::filesystem::path> clip, dino, hps, subjects, styles, truth;
  std::optional<std::filesystem::path> human, prompts;
  std::optional<std::string> judge_url, judge_model;
  std::optional<std::filesystem::path> judge_key_file, judge_cache;
  std::optional<int64_t> judge_jobs, judge_retries;
  std::optional<double> judge_timeout_s;
  std::optional<std::filesystem::path> output;
  std::optional<OnExist> on_exist;
  MachineOptions machine;
  RunOptions run;
};

/// `options` must outlive the parse.
CLI::App* register_eval(CLI::App& program, EvalOptions& options);
CommandHelp eval_help();

/// Measures, prints the table, writes the files. Throws molar's errors; see DESIGN for exit codes.
void run_eval(const EvalOptions& options, const LogSession& log);

}  // namespace molar::cli
