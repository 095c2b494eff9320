/// Options of the trainings on pictures: lora, expert and gates.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "machine_options.h"
#include "model_options.h"
#include "molar/core/log.h"
#include "molar/io/checkpoint.h"
#include "molar/training/picture_training.h"
#include "molar/training/picture_training_options.h"
#include "molar/training/stepwise_trainer.h"
#include "run_options.h"

namespace molar::cli {

/// Unset means: the default of PictureTrainingOptions.
struct PictureTrainingFlags {
  std::optional<int64_t> resolution;
  bool flip = false;

  ModelOptions model;
  std::optional<std::string> dtype;

  std::optional<int64_t> steps, batch_size, gradient_accumulation, warmup_steps;
  std::optional<double> learning_rate, beta1, beta2, weight_decay, epsilon, max_grad_norm,
      min_snr_gamma;
  std::optional<std::string> lr_scheduler;
  std::optional<uint64_t> seed;
  bool gradient_checkpointing = false;

  std::optional<int64_t> sample_every, sample_steps;
  std::vector<std::string> sample_prompts;

  std::optional<std::filesystem::path> output;
  std::optional<int64_t> checkpoint_every;
  bool resume = false, no_resume = false;

  MachineOptions machine;
  RunOptions run;
};

/// What the help calls the parts that differ.
struct PictureTrainingWords {
  const char* learnt;       ///< "the LoRA"
  const char* output_type;  ///< "FILE"
  const char* output;       ///< what -o is
};

/// `flags` must outlive the parse.
void register_picture_training(CLI::App& app, PictureTrainingFlags& flags,
                               const PictureTrainingWords& words);

/// Sets what was given on top of `options`, all but the output. Throws ConfigError.
void take_picture_training(const PictureTrainingFlags& flags, PictureTrainingOptions& options);

using PictureTraining = std::function<PictureTrainingResult(
    const Checkpoint&, const TrainingContext&, const CancellationToken&)>;
/// Opens the model, trains and reports. `what`: for the log.
void run_picture_training(const PictureTrainingFlags& flags, const PictureTrainingOptions& options,
                          const std::string& what, const LogSession& log,
                          const PictureTraining& training);

}  // namespace molar::cli
