/// Weights for modules that a test builds without a checkpoint.
#pragma once

#include <torch/torch.h>

namespace molar {

/// Gives every parameter standard-normal values times `scale`, in the layout that the loader uses on the CPU.
inline void randomise(torch::nn::Module& module, uint64_t seed, double scale = 0.3) {
  torch::manual_seed(seed);
  for (const auto& parameter : module.named_parameters()) {
    const auto layout = parameter.value().dim() == 4 ? at::MemoryFormat::ChannelsLast
                                                     : at::MemoryFormat::Contiguous;
    parameter.value().set_data((scale * at::randn(parameter.value().sizes())).contiguous(layout));
  }
}

}  // namespace molar
