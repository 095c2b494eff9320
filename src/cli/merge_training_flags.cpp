#include "merge_training_flags.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "molar/core/error.h"
#include "option_binder.h"
#include "progress_display.h"
#include "signals.h"
#include "training_report.h"

namespace molar::cli {

void register_merge_training(CLI::App& app, MergeTrainingFlags& flags,
                             const MergeTrainingOptions& defaults) {
  register_model_options(app, flags.model);
  OptionBinder model(app, "Model");
  model.value("--dtype", flags.dtype, "f32|bf16",
              "Type of the frozen model; what is learnt is f32 (f32)");
  model.value("--resolution", flags.resolution, "PX",
              "Side of the square that is cut out of each picture (the model's own)");

  OptionBinder training(app, "Training");
  training.value("--steps", flags.steps, "N",
                 fmt::format("Updates of what is learnt ({})", defaults.num_steps));
  training.value("--batch-size", flags.batch_size, "N",
                 fmt::format("Pictures of each LoRA per pass ({})", defaults.batch_size));
  training.value("--learning-rate", flags.learning_rate, "X",
                 fmt::format("Of AdamW ({})", defaults.learning_rate));
  training.value("--similarity-weight", flags.similarity_weight, "X",
                 fmt::format("How much both LoRAs' coefficients are kept apart, lambda ({})",
                             defaults.similarity_weight));
  training.value("-s,--seed", flags.seed, "N", "Seed of everything random (0)");
  training.flag("--gradient-checkpointing", flags.gradient_checkpointing,
                "Much less memory, about a third more time");

  OptionBinder output(app, "Output");
  output.value("-o,--output", flags.output, "FILE", "What was learnt, a .safetensors file");
  output.value(
      "--checkpoint-every", flags.checkpoint_every, "N",
      fmt::format("Steps after which an interrupted run can go on; 0: only if stopped ({})",
                  defaults.checkpoint_every));
  output.flag("--resume", flags.resume,
              "Go on where the same command was interrupted (the default)");
  output.flag("--no-resume", flags.no_resume,
              "Start anew: replaces the result and the checkpoint of an earlier run");
  register_machine_options(app, flags.machine);
  register_run_options(app, flags.run);
}

void take_merge_training(const MergeTrainingFlags& flags, MergeTrainingOptions& options) {
  take(flags.resolution, options.resolution_px);
  take(flags.steps, options.num_steps);
  take(flags.batch_size, options.batch_size);
  take(flags.learning_rate, options.learning_rate);
  take(flags.similarity_weight, options.similarity_weight);
  take(flags.seed, options.seed);
  options.gradient_checkpointing = flags.gradient_checkpointing;
  options.compute.device = parse_device(flags.machine.device.value_or("auto"));
  options.compute.dtype = parse_dtype(flags.dtype.value_or("f32"), options.compute.device);
  take(flags.output, options.output);
  take(flags.checkpoint_every, options.checkpoint_every);
  options.start_anew = starts_anew(flags.resume, flags.no_resume);
}

void run_merge_training(const MergeTrainingFlags& flags, const MergeTrainingOptions& options,
                        const std::string& what, const LogSession& log,
                        const MergeTraining& training) {
  const CancellationToken& cancellation = handle_signals(flags.run.quiet);
  ModelRequest model;
  take_model(flags.model, model);
  set_threads(flags.machine.threads);
  spdlog::info("learning {} with {}, {} on {}, seed {}", what, model.model.string(),
               dtype_option(options.compute.dtype), options.compute.device.str(), options.seed);
  const Checkpoint checkpoint = open_model(model);
  const std::unique_ptr<ProgressSink> progress =
      make_progress_display(flags.machine.progress_style(flags.run.quiet));
  const MergeTrainingResult result =
      training(checkpoint, {.progress = *progress,
                            .cancellation = cancellation,
                            .on_step = [&](const TrainingStep& step) {
                              if (flags.run.json) report_step(step);
                            }});
  report_outcome({result.path, result.already_finished, result.num_steps}, flags.run.json,
                 log.warnings());
}

}  // namespace molar::cli
