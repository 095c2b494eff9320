/// Weights for modules that a test builds without a checkpoint.
#pragma once

#include <torch/torch.h>

namespace molar {

/// Gives every parameter standard-normal values times `scale`.
inline void randomise(torch::nn::Module& module, uint64_t seed, double scale = 0.3) {
  torch::manual_seed(seed);
  for (const auto& parameter : module.named_parameters())
    parameter.value().set_data(scale * at::randn(parameter.value().sizes()));
}

}  // namespace molar
