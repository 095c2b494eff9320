#include "merge_methods.h"

namespace molar {

LoraWeights merge_concat(const std::vector<MergeInput>& inputs) {
  LoraWeights merged = merge_direct(inputs);
  for (auto& [name, layer] : merged.layers) {
    const LoraMatrices matrices = layer.matrices();
    LowRankFactors factors{.down = matrices.down, .up = matrices.up, .mid = {}};
    if (layer.weight_shape.size() == 4) {
      std::vector<int64_t> down_shape = layer.weight_shape;
      down_shape[0] = matrices.down.size(0);
      factors.down = matrices.down.view(down_shape);
      factors.up = matrices.up.unsqueeze(-1).unsqueeze(-1);
    }
    layer = {.factors = std::move(factors), .scale = 1.0, .weight_shape = layer.weight_shape};
  }
  return merged;
}

}  // namespace molar
