/// Options that every training has, and how a training is run from them.
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
#include "molar/io/checkpoint.h"
#include "molar/training/stepwise_trainer.h"
#include "option_binder.h"
#include "run_options.h"
#include "training_report.h"

namespace molar::cli {

/// Unset means: the default of the training's options.
struct TrainingFlags {
  ModelOptions model;
  std::optional<std::string> dtype;
  std::optional<int64_t> resolution, steps, batch_size, checkpoint_every;
  std::optional<double> learning_rate;
  std::optional<uint64_t> seed;
  bool gradient_checkpointing = false;
  std::optional<std::filesystem::path> output;
  bool resume = false, no_resume = false;
  MachineOptions machine;
  RunOptions run;
};

/// The model and its type. `learnt`: "the LoRA is trained in", for the help.
void register_training_model(CLI::App& app, TrainingFlags& flags, const std::string& learnt);

/// What the help says of -o.
struct OutputWords {
  const char* type;  ///< "FILE"
  const char* text;
};
/// -o, checkpoints, machine and run. `flags` must outlive the parse.
void register_training_output(CLI::App& app, TrainingFlags& flags, const OutputWords& output,
                              int64_t checkpoint_every);

/// Sets what was given on top of PictureTrainingOptions or MergeTrainingOptions, all but the
/// output. Throws ConfigError.
template <typename Options>
void take_training(const TrainingFlags& flags, Options& options) {
  options.resolution_px = flags.resolution;
  take(flags.steps, options.num_steps);
  take(flags.batch_size, options.batch_size);
  take(flags.learning_rate, options.learning_rate);
  take(flags.seed, options.seed);
  options.gradient_checkpointing = flags.gradient_checkpointing;
  options.compute.device = parse_device(flags.machine.device.value_or("auto"));
  options.compute.dtype = parse_dtype(flags.dtype.value_or("f32"), options.compute.device);
  take(flags.checkpoint_every, options.checkpoint_every);
  options.start_anew = starts_anew(flags.resume, flags.no_resume);
}

/// What a training is to the log and to the model.
struct TrainingTask {
  std::string what;  ///< "from 'dog/'", after "learning"
  ComputeOptions compute;
  uint64_t seed = 0;
};
using Training = std::function<TrainingResult(const Checkpoint&, const TrainingContext&)>;
/// Opens the model, trains and reports.
void run_training_command(const TrainingFlags& flags, const TrainingTask& task,
                          const LogSession& log, const Training& training);

}  // namespace molar::cli
