/// Names of a model's adaptable layers, as LoRA files spell them.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>

#include "molar/models/layer_hook.h"

namespace molar {

/// Every Linear and Conv2d of `module` under its dotted diffusers name.
LayerIndex adaptable_layers(const torch::nn::Module& module);

/// kohya's spelling, "_" for ".", back to the dotted name: "mid_block_attentions_0_proj_in" ->
/// "mid_block.attentions.0.proj_in". The text alone cannot undo it ("to_q"), the model can.
std::map<std::string, std::string> flattened_names(const LayerIndex& layers);

}  // namespace molar
