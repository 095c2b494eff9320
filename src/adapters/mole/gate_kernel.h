/// The gates of one layer in one pass, for inference on the CPU: the operators that give the same
/// take a quarter of a small model's step.
#pragma once

#include "molar/adapters/mole/expert_layer.h"
#include "molar/core/tensor.h"

namespace molar {

/// What the gates of one call come to.
struct GatedTokens {
  GateValues values;
  Tensor weights;  ///< s g mask: [B, m, E] in the layer's type; m is n, or only mask.active
};

/// Whether cpu_gates may be used: on the CPU, a token's logits side by side, nothing being
/// recorded.
bool gate_kernel_applies(const Tensor& logits);

/// logits: [B, n, 2 E], local ones, then the global ones of each token; bias: [2 E], float32. Means
/// are summed in the order of the tokens, in float64.
GatedTokens cpu_gates(const Tensor& logits, const Tensor& bias, const ExpertMask& mask);

}  // namespace molar
