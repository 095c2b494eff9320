#include "picture_training_flags.h"

#include <fmt/format.h>

#include "molar/core/error.h"
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
                               const std::string& learnt, const OutputWords& output) {
  OptionBinder data(app, "Pictures");
  data.value("--resolution", flags.resolution, "PX",
             "Side of the square that is cut out of each picture (the model's own)");
  data.flag("--flip", flags.flip, "Mirror half of the pictures, drawn anew each time");

  data.value("--proportion-empty-prompts", flags.proportion_empty_prompts, "P",
             "Show a picture with an empty caption with probability P, as guidance needs; 0.1 is "
             "usual (0)");

  register_training_model(app, flags, learnt);

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

  register_training_output(app, flags, output, PictureTrainingOptions{}.checkpoint_every);
}

void take_picture_training(const PictureTrainingFlags& flags, PictureTrainingOptions& options) {
  take_training(flags, options);
  options.flip = flags.flip;
  take(flags.proportion_empty_prompts, options.proportion_empty_prompts);
  take(flags.gradient_accumulation, options.gradient_accumulation);
  if (flags.lr_scheduler) options.schedule = parse_schedule(*flags.lr_scheduler);
  take(flags.warmup_steps, options.warmup_steps);
  take(flags.beta1, options.beta1);
  take(flags.beta2, options.beta2);
  take(flags.weight_decay, options.weight_decay);
  take(flags.epsilon, options.epsilon);
  take(flags.max_grad_norm, options.max_grad_norm);
  options.min_snr_gamma = flags.min_snr_gamma;
  take(flags.sample_every, options.sample_every);
}

}  // namespace molar::cli
