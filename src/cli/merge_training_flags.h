/// Options of the trainings that learn to merge two LoRAs, ziplora and hypernet.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>

#include "molar/training/merge_training_options.h"
#include "training_flags.h"

namespace molar::cli {

/// Unset means: the default of MergeTrainingOptions.
struct MergeTrainingFlags : TrainingFlags {
  std::optional<double> similarity_weight;
};

/// `defaults`: what the training's own are, for the help. `flags` must outlive the parse.
void register_merge_training(CLI::App& app, MergeTrainingFlags& flags,
                             const MergeTrainingOptions& defaults);

/// Sets what was given on top of `options`. Throws ConfigError.
void take_merge_training(const MergeTrainingFlags& flags, MergeTrainingOptions& options);

}  // namespace molar::cli
