#include "picture_training_flags.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "molar/core/error.h"
#include "option_binder.h"
#include "progress_display.h"
#include "signals.h"
#include "training_report.h"
#include "training_samples.h"

namespace molar::cli {
namespace {

LearningRateSchedule parse_schedule(const std::string& name) {
  if (name == "constant") return LearningRateSchedule::kConstant;
  if (name == "cosine") return LearningRateSchedule::kCosine;
  throw ConfigError(fmt::format("--lr-scheduler '{}': wanted constant or cosine", name));
}

}  // namespace

void register_picture_training(CLI::App& app, PictureTrainingFlags& flags,
                               const PictureTrainingWords& words) {
  OptionBinder data(app, "Pictures");
  data.value("--resolution", flags.resolution, "PX",
             "Side of the square that is cut out of each picture (the model's own)");
  data.flag("--flip", flags.flip, "Mirror half of the pictures, drawn anew each time");

  register_model_options(app, flags.model);
  OptionBinder model(app, "Model");
  model.value("--dtype", flags.dtype, "f32|bf16",
              fmt::format("Type of the frozen model; {} trained in f32 (f32)", words.learnt));

  OptionBinder training(app, "Training");
  training.value("--steps", flags.steps, "N", "Updates of what is learnt (1000)");
  training.value("--batch-size", flags.batch_size, "N", "Pictures per pass (1)");
  training.value("--gradient-accumulation", flags.gradient_accumulation, "N",
                 "Passes per step (1)");
  training.value("--learning-rate", flags.learning_rate, "X", "Of AdamW (1e-4)");
  training.value("--lr-scheduler", flags.lr_scheduler, "constant|cosine",
                 "Rate after the warm-up; cosine falls to 0 at the last step (constant)");
  training.value("--warmup-steps", flags.warmup_steps, "N",
                 "Steps in which the rate grows from 0 (0)");
  training.value("--beta1", flags.beta1, "X", "AdamW (0.9)");
  training.value("--beta2", flags.beta2, "X", "AdamW (0.999)");
  training.value("--weight-decay", flags.weight_decay, "X", "AdamW (0.01)");
  training.value("--epsilon", flags.epsilon, "X", "AdamW (1e-8)");
  training.value("--max-grad-norm", flags.max_grad_norm, "X",
                 "Longer gradients are cut; 0: never (1)");
  training.value("--min-snr-gamma", flags.min_snr_gamma, "X",
                 "Weigh steps of little noise less, 5 is usual (no weights)");
  training.value("-s,--seed", flags.seed, "N", "Seed of everything random (0)");
  training.flag("--gradient-checkpointing", flags.gradient_checkpointing,
                "Much less memory, about a third more time");

  OptionBinder samples(app, "Sample pictures");
  samples.value("--sample-every", flags.sample_every, "N",
                "Every N steps and at the end: keep what is learnt as it is and draw with it (0: "
                "never)");
  samples.list("--sample-prompt", flags.sample_prompts, "TEXT",
               "What to draw; repeatable (the instance prompt)");
  samples.value("--sample-steps", flags.sample_steps, "N",
                fmt::format("Sampling steps of each ({})", kSampleSteps));

  OptionBinder output(app, "Output");
  output.value("-o,--output", flags.output, words.output_type, words.output);
  output.value("--checkpoint-every", flags.checkpoint_every, "N",
               "Steps after which an interrupted run can go on; 0: only if stopped (100)");
  output.flag("--resume", flags.resume,
              "Go on where the same command was interrupted (the default)");
  output.flag("--no-resume", flags.no_resume,
              "Start anew: replaces the result and the checkpoint of an earlier run");
  register_machine_options(app, flags.machine);
  register_run_options(app, flags.run);
}

void take_picture_training(const PictureTrainingFlags& flags, PictureTrainingOptions& options) {
  options.resolution_px = flags.resolution;
  options.flip = flags.flip;
  take(flags.steps, options.num_steps);
  take(flags.batch_size, options.batch_size);
  take(flags.gradient_accumulation, options.gradient_accumulation);
  take(flags.learning_rate, options.learning_rate);
  if (flags.lr_scheduler) options.schedule = parse_schedule(*flags.lr_scheduler);
  take(flags.warmup_steps, options.warmup_steps);
  take(flags.beta1, options.beta1);
  take(flags.beta2, options.beta2);
  take(flags.weight_decay, options.weight_decay);
  take(flags.epsilon, options.epsilon);
  take(flags.max_grad_norm, options.max_grad_norm);
  options.min_snr_gamma = flags.min_snr_gamma;
  take(flags.seed, options.seed);
  options.gradient_checkpointing = flags.gradient_checkpointing;
  options.compute.device = parse_device(flags.machine.device.value_or("auto"));
  options.compute.dtype = parse_dtype(flags.dtype.value_or("f32"), options.compute.device);
  take(flags.checkpoint_every, options.checkpoint_every);
  take(flags.sample_every, options.sample_every);
  options.start_anew = starts_anew(flags.resume, flags.no_resume);
}

void run_picture_training(const PictureTrainingFlags& flags, const PictureTrainingOptions& options,
                          const std::string& what, const LogSession& log,
                          const PictureTraining& training) {
  const CancellationToken& cancellation = handle_signals(flags.run.quiet);
  ModelRequest model;
  take_model(flags.model, model);
  set_threads(flags.machine.threads);
  spdlog::info("learning {} with {}, {} on {}, seed {}", what, model.model.string(),
               dtype_option(options.compute.dtype), options.compute.device.str(), options.seed);
  const Checkpoint checkpoint = open_model(model);
  const std::unique_ptr<ProgressSink> progress =
      make_progress_display(flags.machine.progress_style(flags.run.quiet));
  const PictureTrainingResult result = training(checkpoint,
                                                {.progress = *progress,
                                                 .cancellation = cancellation,
                                                 .on_step =
                                                     [&](const TrainingStep& step) {
                                                       if (flags.run.json) report_step(step);
                                                     }},
                                                cancellation);
  if (!result.already_finished)
    spdlog::info("{} steps: {} layers, {} numbers", result.num_steps, result.num_layers,
                 result.num_parameters);
  report_outcome({result.path, result.already_finished, result.num_steps}, flags.run.json,
                 log.warnings());
}

}  // namespace molar::cli
