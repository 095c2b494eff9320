/// `molar train hypernet`: many LoRAs and their pictures -> a network that predicts how any two are
/// merged.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>

#include "command.h"
#include "merge_training_flags.h"
#include "molar/core/log.h"

namespace molar::cli {

/// Unset means: the default of HypernetOptions.
struct TrainHypernetOptions {
  std::optional<std::filesystem::path> subjects, styles, validation_subjects, validation_styles,
      joint_images;
  std::optional<std::string> layout;
  std::optional<int64_t> hidden, pairs_per_step, validate_every, patience;
  std::optional<double> joint_weight, weight_decay, max_grad_norm;
  bool constant = false;
  MergeTrainingFlags training;
};

/// `group`: the command `train`. `options` must outlive the parse.
CLI::App* register_train_hypernet(CLI::App& group, TrainHypernetOptions& options);
CommandHelp train_hypernet_help();

/// Trains, or says that an earlier run did. Throws molar's errors; see DESIGN for exit codes.
void run_train_hypernet(const TrainHypernetOptions& options, const LogSession& log);

}  // namespace molar::cli
