#include "merge_methods.h"

namespace molar {

MergedLora merge_direct(const std::vector<MergeInput>& inputs, const MergeOptions& /*options*/) {
  MergedLora merged;
  for (const MergeInput& input : inputs)
    for (const auto& [name, layer] : input.weights.layers) {
      LoraLayer term = layer;
      term.scale *= input.strength_of(name);
      const auto [found, is_new] = merged.weights.layers.try_emplace(
          name, LoraLayer{.factors = LoraSum{}, .weight_shape = layer.weight_shape});
      std::get<LoraSum>(found->second.factors).terms.push_back(std::move(term));
      merged.layers[name].rule = is_new ? role_name(input.role) : "sum";
    }
  return merged;
}

}  // namespace molar
