#include "molar/training/lora_training_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "option_checks.h"

namespace molar {
namespace {

constexpr std::pair<std::string_view, LoraTarget> kTargets[] = {
    {"attention", LoraTarget::kAttention},
    {"feed-forward", LoraTarget::kFeedForward},
    {"convolution", LoraTarget::kConvolution},
    {"text-encoder", LoraTarget::kTextEncoder},
};

}  // namespace

std::vector<std::string> lora_target_names() {
  std::vector<std::string> names;
  for (const auto& [name, target] : kTargets) names.emplace_back(name);
  return names;
}

LoraTarget parse_lora_target(std::string_view name) {
  for (const auto& [known, target] : kTargets)
    if (name == known) return target;
  throw ConfigError(fmt::format("--target '{}': wanted {}, several joined by commas{}", name,
                                fmt::join(lora_target_names(), ", "),
                                suggestion(name, lora_target_names())));
}

void LoraTrainingOptions::validate() const {
  if (instance.folder.empty())
    throw ConfigError("no pictures to learn from; wanted --instance-images DIR");
  if (targets.empty())
    throw ConfigError(fmt::format("no --target; wanted {}", fmt::join(lora_target_names(), ", ")));
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  check_integers({{"--rank", rank, 1, 4096}});
  check_numbers({{"--alpha", effective_alpha(), std::numeric_limits<double>::min(), kInfinity},
                 {"--prior-weight", prior_weight, 0, kInfinity}});
  PictureTrainingOptions::validate();
}

Json LoraTrainingOptions::to_json() const {
  Json json = PictureTrainingOptions::to_json();
  json.update(Json{{"rank", rank},
                   {"alpha", effective_alpha()},
                   {"target", Json::array()},
                   {"format", lora_format_name(format)},
                   {"save-dtype", dtype_option(save_dtype)}});
  for (const auto& [name, target] : kTargets)
    if (targets.contains(target)) json["target"].push_back(name);
  if (instance.prompt) json["instance-prompt"] = *instance.prompt;
  if (classes) {
    json["prior-weight"] = prior_weight;
    if (classes->prompt) json["class-prompt"] = *classes->prompt;
  }
  return json;
}

}  // namespace molar
