/// Options of every subcommand that computes: on what, with how many threads, seen how.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "value_parsing.h"

namespace molar::cli {

struct MachineOptions {
  std::optional<std::string> device;
  std::optional<int64_t> threads;
  std::optional<ProgressStyle> progress;

  /// How progress is shown beside -q.
  ProgressStyle progress_style(bool quiet) const;
};

/// `options` must outlive the parse.
void register_machine_options(CLI::App& app, MachineOptions& options);

/// --threads alone, for a command that computes on the CPU in a moment.
void register_thread_option(CLI::App& app, std::optional<int64_t>& threads);

/// --progress alone.
void register_progress_option(CLI::App& app, std::optional<ProgressStyle>& progress);

/// --resume is the default and --no-resume its opposite. Throws ConfigError for both at once.
bool starts_anew(bool resume, bool no_resume);

/// Makes libtorch ready to compute: its vector functions, memory that stays with the process, and
/// the number of threads where one was given. Throws ConfigError.
void set_threads(const std::optional<int64_t>& threads);

}  // namespace molar::cli
