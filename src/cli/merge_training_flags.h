/// Options of the trainings that learn to merge two LoRAs, ziplora and hypernet.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "machine_options.h"
#include "model_options.h"
#include "molar/core/log.h"
#include "molar/training/merge_training.h"
#include "run_options.h"

namespace molar::cli {

/// Unset means: the default of MergeTrainingOptions.
struct MergeTrainingFlags {
  ModelOptions model;
  std::optional<std::string> dtype;
  std::optional<int64_t> resolution, steps, batch_size, checkpoint_every;
  std::optional<double> learning_rate, similarity_weight;
  std::optional<uint64_t> seed;
  bool gradient_checkpointing = false;
  std::optional<std::filesystem::path> output;
  bool resume = false, no_resume = false;
  MachineOptions machine;
  RunOptions run;
};

/// `defaults`: what the training's own are, for the help. `flags` must outlive the parse.
void register_merge_training(CLI::App& app, MergeTrainingFlags& flags,
                             const MergeTrainingOptions& defaults);

/// Sets what was given on top of `options`. Throws ConfigError.
void take_merge_training(const MergeTrainingFlags& flags, MergeTrainingOptions& options);

using MergeTraining = std::function<MergeTrainingResult(const Checkpoint&, const TrainingContext&)>;
/// Opens the model, trains and reports. `what`: for the log.
void run_merge_training(const MergeTrainingFlags& flags, const MergeTrainingOptions& options,
                        const std::string& what, const LogSession& log,
                        const MergeTraining& training);

}  // namespace molar::cli
