/// One layer's low-rank experts behind their soft gates (Zhu et al. 2024, arXiv:2410.23332, eq.
/// 4-8, with the published code's biases and global gate).
///
///   y' = y + sum_e r_e s_e g_e,   r_e = scale_e up_e down_e x              [B, n, out]
///   s_e = sigmoid(Phi x + b)_e                       local:  one value for each token
///   g_e = sigmoid(w_e . mean_n(r_e) + b_e)           global: one value for each picture row
///
/// Note [Fused experts]
/// No expert has a pass of its own. mean_n(r_e) = scale_e up_e down_e mean_n(x), so the global
/// gate is sigmoid(mean_n(omega_e . x) + b_e) with omega_e = scale_e (w_e up_e) down_e, a row
/// beside Phi's. One product of x with [down; Phi; omega] gives every expert's inner values and all
/// gates; the gates weigh the inner values, and one product with [scale_e up_e] adds them all to y.
/// Where an expert's whole change costs less than its factors (rank above in out / (in + out)), the
/// inner values are x itself and `up` holds the changes.
#pragma once

#include <cstdint>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/adapters/mole/expert_gates.h"
#include "molar/core/tensor.h"
#include "molar/models/layer_hook.h"

namespace molar {

/// The experts of one layer side by side, all of one inner width r: of lower ranks, zeros fill up.
struct StackedExperts {
  Tensor down;  ///< [E * r, in]; undefined: every expert's inner values are x itself, r = in
  Tensor up;    ///< [out, E * r]; holds the scales
  int64_t num_experts = 0;
};

/// In the cheaper of the two forms of Note [Fused experts]. `factors`: one per expert, of one
/// layer; exact.
StackedExperts stack_experts(const std::vector<LoraMatrices>& factors);

/// All gates of a layer as functions of its input. Gradients flow to the LayerGates.
struct GateRows {
  Tensor weight;  ///< [2 E, in]: Phi, then omega
  Tensor bias;    ///< [2 E]
};
GateRows gate_rows(const StackedExperts& experts, const LayerGates& gates);

/// What the gates were in one call.
struct GateValues {
  Tensor local;   ///< s: [B, n, E]
  Tensor global;  ///< g: [B, E]
};

/// Where experts act: a factor on the local gate of each token.
struct ExpertMask {
  Tensor weights;  ///< [n, E], float32; undefined: everywhere
  /// The tokens that any expert acts on, int64: inner values are computed for these alone, to the
  /// same result. Undefined: all.
  Tensor active;

  ExpertMask() = default;
  /// Leaves tokens out where enough of them are masked for all experts to be worth it.
  explicit ExpertMask(const Tensor& weights_of_tokens);
};

/// What limits the experts of one call.
struct ExpertLimits {
  ExpertMask mask;
  double cap = 0;  ///< above 0: |sum of the experts| <= cap |y|, norms over one picture row
};

/// A layer as it is computed.
class ExpertLayer {
 public:
  /// `strengths`: one factor per expert on its result; its gates stay as learnt. Gradients flow to
  /// `rows`.
  ExpertLayer(const StackedExperts& experts, const GateRows& rows,
              const std::vector<double>& strengths);
  /// The same in another type, on another device.
  ExpertLayer to(at::Device device, at::ScalarType dtype) const;

  /// A LayerResidual. `layer`: the one that x and y belong to.
  /// `values`: null, or gets the gates, before the mask.
  Tensor forward(const AdaptableLayer& layer, const Tensor& x, const Tensor& y,
                 const ExpertLimits& limits, GateValues* values = nullptr) const;

  int64_t num_experts() const { return num_experts_; }

 private:
  Tensor project(const AdaptableLayer& layer, const Tensor& x, const Tensor& rows) const;

  int64_t num_experts_;
  int64_t inner_width_ = 0;  // E * r where the product gives inner values, 0 where they are x
  Tensor rows_;              // [E * r + 2 E, in] or [2 E, in]
  Tensor bias_;              // [2 E], float32
  Tensor up_;                // [out, E * r]
};

}  // namespace molar
