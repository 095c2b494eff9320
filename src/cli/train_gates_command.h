/// `molar train gates`: experts and pictures of people -> gates.safetensors.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "molar/core/log.h"
#include "picture_training_flags.h"

namespace molar::cli {

/// Unset means: the default of GateTrainingOptions.
struct TrainGatesOptions {
  std::vector<std::filesystem::path> instance_images;
  std::optional<std::string> instance_prompt;
  std::vector<std::string> experts;  ///< each may join several by commas
  std::optional<std::string> gates;
  PictureTrainingFlags training;
};

/// `group`: the command `train`. `options` must outlive the parse.
CLI::App* register_train_gates(CLI::App& group, TrainGatesOptions& options);
CommandHelp train_gates_help();

/// Trains, or says that an earlier run did. Throws molar's errors; see DESIGN for exit codes.
void run_train_gates(const TrainGatesOptions& options, const LogSession& log);

}  // namespace molar::cli
