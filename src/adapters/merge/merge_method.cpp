#include "molar/adapters/merge/merge_method.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "merge_methods.h"
#include "molar/core/error.h"

namespace molar {
namespace {

// What "auto" stands for until a method that predicts coefficients exists.
constexpr std::string_view kAutoMethod = "direct";

const MergeMethod& find_method(const std::string& name) {
  const std::string resolved = name == "auto" ? std::string(kAutoMethod) : name;
  for (const MergeMethod& method : merge_methods())
    if (method.name == resolved) return method;
  throw ConfigError(fmt::format("no merge method is called '{}'; known are: {}", name,
                                fmt::join(merge_method_names(), ", ")));
}

/// One shape per layer over all inputs, and finite strengths.
void check_inputs(const std::vector<MergeInput>& inputs) {
  if (inputs.empty()) throw Error("a merge needs at least one LoRA");
  std::map<LayerName, std::pair<const std::vector<int64_t>*, const MergeInput*>> shapes;
  for (const MergeInput& input : inputs) {
    if (!std::isfinite(input.strength))
      throw Error(fmt::format("the strength of '{}' is {}, wanted a finite number",
                              input.weights.path.string(), input.strength));
    for (const auto& [name, layer] : input.weights.layers) {
      const auto [found, is_new] = shapes.try_emplace(name, &layer.weight_shape, &input);
      if (!is_new && *found->second.first != layer.weight_shape)
        throw Error(fmt::format(
            "'{}' and '{}' were loaded for different models: layer '{}' is {} and {}",
            found->second.second->weights.path.string(), input.weights.path.string(), name.module,
            shape_string(*found->second.first), shape_string(layer.weight_shape)));
    }
  }
}

}  // namespace

std::string_view role_name(LoraRole role) {
  switch (role) {
    case LoraRole::kSubject:
      return "subject";
    case LoraRole::kStyle:
      return "style";
    case LoraRole::kOther:
      break;
  }
  return "lora";
}

const std::vector<MergeMethod>& merge_methods() {
  static const std::vector<MergeMethod> methods{
      {"direct", "the sum of all changes, each times its strength", merge_direct},
      {"concat", "the same sum as one LoRA whose rank is the sum of the ranks", merge_concat},
  };
  return methods;
}

std::vector<std::string> merge_method_names() {
  std::vector<std::string> names{"auto"};
  for (const MergeMethod& method : merge_methods()) names.emplace_back(method.name);
  return names;
}

std::string resolve_merge_method(const std::string& name) {
  return std::string(find_method(name).name);
}

LoraWeights merge_loras(const std::string& name, const std::vector<MergeInput>& inputs) {
  const MergeMethod& method = find_method(name);
  check_inputs(inputs);
  LoraWeights merged = method.merge(inputs);
  merged.key_family = fmt::format("merged ({})", method.name);
  return merged;
}

}  // namespace molar
