#include "merge_methods.h"

namespace molar {

LoraWeights merge_direct(const std::vector<MergeInput>& inputs) {
  LoraWeights merged;
  for (const MergeInput& input : inputs)
    for (const auto& [name, layer] : input.weights.layers) {
      LoraLayer term = layer;
      term.scale *= input.strength;
      LoraLayer& sum = merged.layers
                           .try_emplace(name, LoraLayer{.factors = LoraSum{},
                                                        .weight_shape = layer.weight_shape})
                           .first->second;
      std::get<LoraSum>(sum.factors).terms.push_back(std::move(term));
    }
  return merged;
}

}  // namespace molar
