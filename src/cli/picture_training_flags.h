/// Options of the trainings on pictures: lora, expert and gates.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "molar/training/picture_training_options.h"
#include "training_flags.h"

namespace molar::cli {

/// Unset means: the default of PictureTrainingOptions.
struct PictureTrainingFlags : TrainingFlags {
  bool flip = false;
  std::optional<double> proportion_empty_prompts;

  std::optional<int64_t> gradient_accumulation, warmup_steps;
  std::optional<double> beta1, beta2, weight_decay, epsilon, max_grad_norm, min_snr_gamma;
  std::optional<std::string> lr_scheduler;

  std::optional<int64_t> sample_every, sample_steps;
  std::vector<std::string> sample_prompts;
};

/// `learnt`: see register_training_model. `flags` must outlive the parse.
void register_picture_training(CLI::App& app, PictureTrainingFlags& flags,
                               const std::string& learnt, const OutputWords& output);

/// Sets what was given on top of `options`, all but the output. Throws ConfigError.
void take_picture_training(const PictureTrainingFlags& flags, PictureTrainingOptions& options);

}  // namespace molar::cli
