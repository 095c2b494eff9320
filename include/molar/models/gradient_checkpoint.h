/// Gradient checkpointing: less memory in training for one more forward pass (Chen et al. 2016,
/// arXiv:1604.06174).
#pragma once

#include <torch/torch.h>

#include <functional>
#include <vector>

#include "molar/core/tensor.h"

namespace molar {

/// A part of a network as a function of its activations; parameters are its own.
using NetworkPart = std::function<Tensor(const std::vector<Tensor>& inputs)>;

/// part(inputs), of which nothing but the inputs is kept: backward runs `part` a second time and
/// adds to the gradients of the parameters that it uses. `part` must give the same result both
/// times; what it points to must outlive backward. For backward(), not for autograd::grad(), which
/// would not reach the parameters. Without gradients: the plain call.
Tensor checkpointed(const NetworkPart& part, const std::vector<Tensor>& inputs);

}  // namespace molar
