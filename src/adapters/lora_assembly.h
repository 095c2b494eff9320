/// From named tensors to the change of one layer, with every shape checked.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "molar/adapters/lora.h"
#include "molar/adapters/lora_key_map.h"

namespace molar {

/// A factor and the key that it stands under.
struct LoraFactor {
  std::string key;
  Tensor tensor;
};
using LoraFactors = std::map<LoraPart, LoraFactor>;

/// The layer's change without its configured scale; `own_scale` is what the file's own .alpha or
/// .scale gives.
struct AssembledLayer {
  LoraLayer layer;
  std::optional<double> own_scale;
  std::vector<int64_t>
      change_shape;  ///< what the factors make: equal to the layer's or it does not fit
};

/// `weight_shape` decides how the factors are read where a 1x1 convolution and a linear layer look
/// alike. Throws FileError: half of a pair, factors that do not multiply, a number type that is
/// none, NaN, infinity, factors of two kinds on one layer. `file` names the file in messages.
AssembledLayer assemble_lora_layer(const LoraFactors& factors, at::IntArrayRef weight_shape,
                                   const std::string& file);

}  // namespace molar
