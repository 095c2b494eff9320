/// `molar train expert`: close-ups of one part of people -> an expert's LoRA file.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "command.h"
#include "molar/core/log.h"
#include "picture_training_flags.h"

namespace molar::cli {

/// Unset means: the paper's rank and alpha, else the default of LoraTrainingOptions.
struct TrainExpertOptions {
  std::optional<std::string> region;
  std::optional<std::filesystem::path> instance_images;
  std::optional<std::string> instance_prompt;
  std::optional<int64_t> rank;
  std::optional<double> alpha;
  std::optional<std::string> save_dtype;
  PictureTrainingFlags training;
};

/// `group`: the command `train`. `options` must outlive the parse.
CLI::App* register_train_expert(CLI::App& group, TrainExpertOptions& options);
CommandHelp train_expert_help();

/// Trains, or says that an earlier run did. Throws molar's errors; see DESIGN for exit codes.
void run_train_expert(const TrainExpertOptions& options, const LogSession& log);

}  // namespace molar::cli
