/// Options that every subcommand shares: how it talks, not what it does.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>

#include "molar/core/log.h"

namespace molar::cli {

struct RunOptions {
  bool quiet = false;                           ///< errors only
  bool verbose = false;                         ///< debug lines too
  bool json = false;                            ///< machine-readable results on standard output
  std::optional<std::filesystem::path> config;  ///< TOML file of options

  /// Throws ConfigError where both were asked for.
  Verbosity verbosity() const;
};

/// `options` must outlive the parse.
void register_run_options(CLI::App& app, RunOptions& options);

}  // namespace molar::cli
