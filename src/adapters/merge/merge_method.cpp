#include "molar/adapters/merge/merge_method.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "merge_methods.h"
#include "molar/adapters/low_rank.h"
#include "molar/core/error.h"
#include "molar/core/nearest_name.h"

namespace molar {
namespace {

const MergeMethod& find_method(const std::string& name) {
  for (const MergeMethod& method : merge_methods())
    if (method.name == name) return method;
  throw ConfigError(fmt::format("no merge method is called '{}'{} Known are: {}", name,
                                suggestion_or_stop(name, merge_method_names()),
                                fmt::join(merge_method_names(), ", ")));
}

void check_roles(const MergeMethod& method, const std::vector<MergeInput>& inputs) {
  if (!method.needs_roles) return;
  const auto count = [&](LoraRole role) {
    return std::ranges::count(inputs, role, &MergeInput::role);
  };
  if (count(LoraRole::kSubject) != 1 || count(LoraRole::kStyle) != 1 || inputs.size() != 2)
    throw ConfigError(fmt::format(
        "merge method '{}' wants one --subject and one --style and no "
        "other file; found {} and {} of {} files",
        method.name, count(LoraRole::kSubject), count(LoraRole::kStyle), inputs.size()));
}

void check_options(const MergeOptions& options) {
  if (!(options.density > 0 && options.density <= 1))
    throw ConfigError(fmt::format("--density {}: wanted above 0, at most 1", options.density));
  if (!(options.projection >= 0 && std::isfinite(options.projection)))
    throw ConfigError(fmt::format("--np-mu {}: wanted a number of 0 or more", options.projection));
  if (options.rank && *options.rank < 1)
    throw ConfigError(fmt::format("--rank {}: wanted 1 or more", *options.rank));
}

/// No layer of a higher rank than asked for.
void reduce_ranks(LoraWeights& weights, const MergeOptions& options) {
  if (!options.rank) return;
  for (auto& [name, layer] : weights.layers)
    layer = plain_layer(truncated(layer.matrices(), *options.rank), layer.weight_shape,
                        options.factors_dtype);
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

const MergeMethod& checked_method(const std::string& name, const std::vector<MergeInput>& inputs,
                                  const MergeOptions& options) {
  const MergeMethod& method =
      find_method(resolve_merge_method(name, {.hypernetwork = options.hypernetwork != nullptr,
                                              .coefficients = options.coefficients != nullptr}));
  check_inputs(inputs);
  check_roles(method, inputs);
  check_options(options);
  if (method.check != nullptr) method.check(inputs, options);
  return method;
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

double MergeInput::strength_of(const LayerName& name) const {
  const auto found = layer_strengths.find(name);
  return found == layer_strengths.end() ? strength : strength * found->second;
}

std::string MergedLora::summary() const {
  std::map<std::string, int64_t> counts;
  for (const auto& [name, layer] : layers) ++counts[layer.rule];
  std::vector<std::string> parts;
  for (const auto& [rule, count] : counts) parts.push_back(fmt::format("{} {}", rule, count));
  return fmt::format("{}", fmt::join(parts, ", "));
}

const std::vector<MergeMethod>& merge_methods() {
  static const std::vector<MergeMethod> methods{
      {"lorarar", "columns weighed by a hypernetwork's prediction (needs --hypernet)", true,
       &MergeAids::hypernetwork, true, check_lorarar, merge_lorarar},
      {"ziplora", "columns weighed by what was learnt for the two files (needs --coefficients)",
       true, &MergeAids::coefficients, true, check_ziplora, merge_ziplora},
      {"np", "the style whole, the subject mostly outside the style's row space", true, nullptr,
       true, nullptr, merge_np},
      {"direct", "the sum of all changes, each times its strength", false, nullptr, true, nullptr,
       merge_direct},
      {"concat", "the same sum as one LoRA whose rank is the sum of the ranks", false, nullptr,
       true, nullptr, merge_concat},
      {"svd", "the best approximation of that sum of a lower rank", false, nullptr, true, nullptr,
       merge_svd},
      {"ties", "large values only, those that agree in sign averaged", false, nullptr, true,
       nullptr, merge_ties},
      {"dare", "values dropped at random, the rest rescaled and summed", false, nullptr, true,
       nullptr, merge_dare},
      {"klora", "attention layers from the subject first, from the style later (generate only)",
       true, nullptr, false, nullptr, merge_klora},
  };
  return methods;
}

std::vector<std::string> merge_method_names() {
  std::vector<std::string> names{"auto"};
  for (const MergeMethod& method : merge_methods()) names.emplace_back(method.name);
  return names;
}

std::string resolve_merge_method(const std::string& name, const MergeAids& aids) {
  if (name == "auto") return aids.hypernetwork ? "lorarar" : "np";
  const MergeMethod& method = find_method(name);
  if (method.aid != nullptr && !(aids.*method.aid))
    throw ConfigError(fmt::format("merge method '{}' needs {}", name,
                                  method.aid == &MergeAids::hypernetwork
                                      ? "--hypernet FILE"
                                      : "--coefficients FILE, which molar train ziplora learns"));
  return name;
}

void require_file_method(const std::string& name) {
  if (!find_method(name).fits_a_file)
    throw ConfigError(
        fmt::format("merge method '{}' exchanges layers during sampling, which no "
                    "LoRA file can hold; wanted molar generate --merge {}",
                    name, name));
}

void check_merge(const std::string& name, const std::vector<MergeInput>& inputs,
                 const MergeOptions& options) {
  checked_method(name, inputs, options);
}

MergedLora merge_loras(const std::string& name, const std::vector<MergeInput>& inputs,
                       const MergeOptions& options) {
  const MergeMethod& method = checked_method(name, inputs, options);
  MergedLora merged = method.merge(inputs, options);
  reduce_ranks(merged.weights, options);
  merged.weights.key_family = fmt::format("merged ({})", method.name);
  return merged;
}

}  // namespace molar
