/// `molar report`: a batch's folder -> a web page of one file and a contact sheet.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "molar/core/atomic_file.h"
#include "run_options.h"
#include "value_parsing.h"

namespace molar::cli {

struct ReportCommandOptions {
  std::vector<std::string> folders;  ///< one
  std::optional<std::filesystem::path> output;
  std::optional<std::string> beside, thumbnail;
  std::optional<OnExist> on_exist;
  std::optional<int64_t> threads;
  std::optional<ProgressStyle> progress;
  RunOptions run;
};

/// `options` must outlive the parse.
CLI::App* register_report(CLI::App& program, ReportCommandOptions& options);
CommandHelp report_help();

/// Throws molar's errors.
void run_report(const ReportCommandOptions& options, const LogSession& log);

}  // namespace molar::cli
