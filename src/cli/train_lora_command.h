/// `molar train lora`: pictures -> LoRA file.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "molar/core/log.h"
#include "molar/training/lora_training_options.h"
#include "picture_training_flags.h"
#include "training_samples.h"

namespace molar::cli {

/// Unset means: the default of LoraTrainingOptions.
struct TrainLoraOptions {
  std::optional<std::filesystem::path> instance_images, class_images;
  std::optional<std::string> instance_prompt, class_prompt;
  std::optional<double> prior_weight;
  std::optional<int64_t> rank;
  std::optional<double> alpha;
  std::vector<std::string> targets;  ///< each may join several by commas
  std::optional<std::string> format, save_dtype;
  PictureTrainingFlags training;
};

/// `group`: the command `train`. `options` must outlive the parse.
CLI::App* register_train_lora(CLI::App& group, TrainLoraOptions& options);
CommandHelp train_lora_help();

/// Trains, or says that an earlier run did. Throws molar's errors; see DESIGN for exit codes.
void run_train_lora(const TrainLoraOptions& options, const LogSession& log);

/// --save-dtype. Throws ConfigError.
at::ScalarType parse_save_dtype(const std::string& name);
/// The training itself, of an expert too.
void run_lora_training(const PictureTrainingFlags& flags, const LoraTrainingOptions& options,
                       SampleDrawer& samples, const LogSession& log);

}  // namespace molar::cli
