#include "molar/training/lora_training_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "molar/core/error.h"
#include "option_checks.h"

namespace molar {
namespace {

constexpr std::pair<std::string_view, LoraTarget> kTargets[] = {
    {"attention", LoraTarget::kAttention},
    {"feed-forward", LoraTarget::kFeedForward},
    {"convolution", LoraTarget::kConvolution},
    {"text-encoder", LoraTarget::kTextEncoder},
};

void check_ranges(const LoraTrainingOptions& o) {
  check_integers({
      {"--rank", o.rank, 1, 4096},
      {"--steps", o.num_steps, 1, kManySteps},
      {"--batch-size", o.batch_size, 1, 4096},
      {"--gradient-accumulation", o.gradient_accumulation, 1, 4096},
      {"--warmup-steps", o.warmup_steps, 0, kManySteps},
      {"--checkpoint-every", o.checkpoint_every, 0, kManySteps},
      {"--sample-every", o.sample_every, 0, kManySteps},
      {"--resolution", o.resolution_px.value_or(8), 8, 8192},
  });
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double tiny = std::numeric_limits<double>::min();
  check_numbers({
      {"--alpha", o.effective_alpha(), tiny, kInfinity},
      {"--learning-rate", o.learning_rate, 0, kInfinity},
      {"--beta1", o.beta1, 0, 1},
      {"--beta2", o.beta2, 0, 1},
      {"--weight-decay", o.weight_decay, 0, kInfinity},
      {"--epsilon", o.epsilon, tiny, kInfinity},
      {"--max-grad-norm", o.max_grad_norm, 0, kInfinity},
      {"--min-snr-gamma", o.min_snr_gamma.value_or(1), tiny, kInfinity},
      {"--prior-weight", o.prior_weight, 0, kInfinity},
  });
}

}  // namespace

std::vector<std::string> lora_target_names() {
  std::vector<std::string> names;
  for (const auto& [name, target] : kTargets) names.emplace_back(name);
  return names;
}

LoraTarget parse_lora_target(std::string_view name) {
  for (const auto& [known, target] : kTargets)
    if (name == known) return target;
  throw ConfigError(fmt::format("--target '{}': wanted {}, several joined by commas", name,
                                fmt::join(lora_target_names(), ", ")));
}

void LoraTrainingOptions::validate() const {
  if (instance.folder.empty())
    throw ConfigError("no pictures to learn from; wanted --instance-images DIR");
  check_output(output);
  if (targets.empty())
    throw ConfigError(fmt::format("no --target; wanted {}", fmt::join(lora_target_names(), ", ")));
  check_ranges(*this);
  if (warmup_steps >= num_steps)
    throw ConfigError(fmt::format("--warmup-steps {}: wanted fewer than the {} of --steps",
                                  warmup_steps, num_steps));
  check_training_dtype(compute.dtype);
}

Json LoraTrainingOptions::to_json() const {
  Json json{{"rank", rank},
            {"alpha", effective_alpha()},
            {"target", Json::array()},
            {"steps", num_steps},
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
            {"dtype", dtype_option(compute.dtype)},
            {"format", lora_format_name(format)},
            {"save-dtype", dtype_option(save_dtype)}};
  for (const auto& [name, target] : kTargets)
    if (targets.contains(target)) json["target"].push_back(name);
  if (min_snr_gamma) json["min-snr-gamma"] = *min_snr_gamma;
  if (resolution_px) json["resolution"] = *resolution_px;
  if (instance.prompt) json["instance-prompt"] = *instance.prompt;
  if (classes) {
    json["prior-weight"] = prior_weight;
    if (classes->prompt) json["class-prompt"] = *classes->prompt;
  }
  return json;
}

}  // namespace molar
