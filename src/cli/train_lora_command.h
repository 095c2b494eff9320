/// `molar train lora`: pictures -> LoRA file.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "machine_options.h"
#include "model_options.h"
#include "molar/core/log.h"
#include "run_options.h"

namespace molar::cli {

/// Unset means: the default of LoraTrainingOptions.
struct TrainLoraOptions {
  std::optional<std::filesystem::path> instance_images, class_images;
  std::optional<std::string> instance_prompt, class_prompt;
  std::optional<double> prior_weight;
  std::optional<int64_t> resolution;
  bool flip = false;

  ModelOptions model;
  std::optional<std::string> dtype;

  std::optional<int64_t> rank;
  std::optional<double> alpha;
  std::vector<std::string> targets;  ///< each may join several by commas

  std::optional<int64_t> steps, batch_size, gradient_accumulation, warmup_steps;
  std::optional<double> learning_rate, beta1, beta2, weight_decay, epsilon, max_grad_norm,
      min_snr_gamma;
  std::optional<std::string> lr_scheduler;
  std::optional<uint64_t> seed;
  bool gradient_checkpointing = false;

  std::optional<int64_t> sample_every, sample_steps;
  std::vector<std::string> sample_prompts;

  std::optional<std::filesystem::path> output;
  std::optional<std::string> format, save_dtype;
  std::optional<int64_t> checkpoint_every;
  bool resume = false, no_resume = false;

  MachineOptions machine;
  RunOptions run;
};

/// `group`: the command `train`. `options` must outlive the parse.
CLI::App* register_train_lora(CLI::App& group, TrainLoraOptions& options);
CommandHelp train_lora_help();

/// Trains, or says that an earlier run did. Throws molar's errors; see DESIGN for exit codes.
void run_train_lora(const TrainLoraOptions& options, const LogSession& log);

}  // namespace molar::cli
