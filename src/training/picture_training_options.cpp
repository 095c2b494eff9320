#include "molar/training/picture_training_options.h"

#include <fmt/format.h>

#include <limits>

#include "molar/core/error.h"
#include "option_checks.h"

namespace molar {

void PictureTrainingOptions::validate() const {
  check_output(output);
  check_integers({
      {"--steps", num_steps, 1, kManySteps},
      {"--batch-size", batch_size, 1, 4096},
      {"--gradient-accumulation", gradient_accumulation, 1, 4096},
      {"--warmup-steps", warmup_steps, 0, kManySteps},
      {"--checkpoint-every", checkpoint_every, 0, kManySteps},
      {"--sample-every", sample_every, 0, kManySteps},
      {"--resolution", resolution_px.value_or(8), 8, 8192},
  });
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double tiny = std::numeric_limits<double>::min();
  check_numbers({
      {"--proportion-empty-prompts", proportion_empty_prompts, 0, 1},
      {"--learning-rate", learning_rate, 0, kInfinity},
      {"--beta1", beta1, 0, 1},
      {"--beta2", beta2, 0, 1},
      {"--weight-decay", weight_decay, 0, kInfinity},
      {"--epsilon", epsilon, tiny, kInfinity},
      {"--max-grad-norm", max_grad_norm, 0, kInfinity},
      {"--min-snr-gamma", min_snr_gamma.value_or(1), tiny, kInfinity},
  });
  if (warmup_steps >= num_steps)
    throw ConfigError(fmt::format("--warmup-steps {}: wanted fewer than the {} of --steps",
                                  warmup_steps, num_steps));
  check_training_dtype(compute.dtype);
}

Json PictureTrainingOptions::to_json() const {
  Json json{{"steps", num_steps},
            {"batch-size", batch_size},
            {"gradient-accumulation", gradient_accumulation},
            {"learning-rate", learning_rate},
            {"lr-scheduler", schedule == LearningRateSchedule::kCosine ? "cosine" : "constant"},
            {"warmup-steps", warmup_steps},
            {"beta1", beta1},
            {"beta2", beta2},
            {"weight-decay", weight_decay},
            {"epsilon", epsilon},
            {"max-grad-norm", max_grad_norm},
            {"flip", flip},
            {"seed", seed},
            {"dtype", dtype_option(compute.dtype)}};
  if (min_snr_gamma) json["min-snr-gamma"] = *min_snr_gamma;
  if (proportion_empty_prompts > 0) json["proportion-empty-prompts"] = proportion_empty_prompts;
  if (resolution_px) json["resolution"] = *resolution_px;
  return json;
}

}  // namespace molar
