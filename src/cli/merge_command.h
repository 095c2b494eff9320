/// `molar merge`: LoRA files -> one LoRA file.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "machine_options.h"
#include "molar/core/log.h"
#include "molar/pipeline/generation_request.h"
#include "run_options.h"

namespace molar::cli {

/// Unset means: the default of MergeOptions.
struct MergeCommandOptions {
  std::optional<LoraUse> subject, style;
  std::vector<LoraUse> loras;
  std::optional<std::string> method;
  std::optional<std::filesystem::path> hypernetwork, coefficients, model;
  std::optional<std::string> key_value;
  std::optional<double> density, projection;
  std::optional<uint64_t> seed;
  std::optional<int64_t> rank;
  bool allow_partial_lora = false;

  std::optional<std::filesystem::path> output, report;
  std::optional<std::string> format, dtype;
  std::optional<OnExist> on_exist;
  std::optional<int64_t> threads;
  RunOptions run;
};

/// `options` must outlive the parse.
CLI::App* register_merge(CLI::App& program, MergeCommandOptions& options);
CommandHelp merge_help();

/// Merges and writes. Throws molar's errors; see DESIGN for exit codes.
void run_merge(const MergeCommandOptions& options, const LogSession& log);

}  // namespace molar::cli
