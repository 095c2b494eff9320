/// Options that say which model's files are read, of every subcommand that runs one.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "molar/pipeline/generation_request.h"

namespace molar::cli {

struct ModelOptions {
  std::optional<std::filesystem::path> model, vae, tokenizer;
  std::optional<std::string> prediction_type;
};

/// Under the heading "Model". `options` must outlive the parse.
void register_model_options(CLI::App& app, ModelOptions& options);

/// Sets what was given on top of `request`, and the bundled model where that names none. Throws
/// ConfigError: no model, an unknown prediction type.
void take_model(const ModelOptions& options, ModelRequest& request);

}  // namespace molar::cli
