/// MoLE as its published code computes it, expert by expert: what the fused form is compared with.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "molar/adapters/lora.h"
#include "molar/adapters/mole/expert_layer.h"
#include "molar/models/functional.h"

namespace molar::test {

struct LiteralMole {
  Tensor result;         // [B, n, out]
  Tensor change;         // the sum of the experts, [B, n, out]
  Tensor local, global;  // [B, n, E], [B, E]
};

/// x: [B, n, in]; y: the layer's own result, [B, n, out]; mask: undefined or [n, E]; strengths:
/// empty, or one per expert.
inline LiteralMole literal_mole(const Tensor& x, const Tensor& y,
                                const std::vector<LoraMatrices>& experts, const LayerGates& gates,
                                const std::vector<double>& strengths = {},
                                const Tensor& mask = {}) {
  LiteralMole out;
  out.local = at::sigmoid(at::linear(x, gates.local_weight, gates.local_bias));
  out.change = at::zeros_like(y);
  std::vector<Tensor> globals;
  for (size_t e = 0; e < experts.size(); ++e) {
    const auto row = static_cast<int64_t>(e);
    const Tensor r = fast_linear(fast_linear(x, experts[e].down), experts[e].up);
    const Tensor g = at::sigmoid(at::linear(r.mean(1), gates.global_weight.narrow(0, row, 1),
                                            gates.global_bias.narrow(0, row, 1)));  // [B, 1]
    Tensor weighed = r * out.local.narrow(-1, row, 1) * g.unsqueeze(1);
    if (mask.defined()) weighed = weighed * mask.narrow(-1, row, 1);
    out.change = out.change + weighed * (strengths.empty() ? 1.0 : strengths[e]);
    globals.push_back(g);
  }
  out.global = at::cat(globals, 1);
  out.result = y + out.change;
  return out;
}

}  // namespace molar::test
