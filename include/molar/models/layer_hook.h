/// Linear and Conv2d as adapters see them: the one interface through which a LoRA reaches a layer.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "molar/core/tensor.h"

namespace molar {

/// What an adapter adds to a layer's result. x: the layer's input as the layer got it, [..., in]
/// for a Linear and for a 1x1 convolution that runs on tokens, else [B, in, H, W]. Returns the
/// shape and type of the layer's result. Autograd flows through it.
using LayerResidual = std::function<Tensor(const Tensor& x)>;

/// A layer with a weight that adapters may replace, or whose result they may add to. Implemented by
/// Linear and Conv2d.
class AdaptableLayer {
 public:
  virtual ~AdaptableLayer() = default;
  /// Linear: [out, in], contiguous; Conv2d: [out, in, kh, kw], contiguous or channels-last. In the
  /// compute dtype of the model. Valid until the layer runs or its weight is set.
  virtual const Tensor& weight() const = 0;
  /// Same shape, dtype and device as weight(), in either layout named there; throws Error
  /// otherwise.
  virtual void set_weight(const Tensor& weight) = 0;

  /// The layer's map with `weight`, [r, in] or [r, in, kh, kw], in place of its own and without a
  /// bias: the first half of a low-rank path. x as LayerResidual has it, in the type of `weight`.
  /// Returns [..., r] or [B, r, H', W'].
  virtual Tensor project(const Tensor& x, const Tensor& weight) const = 0;
  /// From now on `residual` is added to every result of the layer; an empty one ends that.
  void set_residual(LayerResidual residual) { residual_ = std::move(residual); }

 protected:
  LayerResidual residual_;
};

/// Dotted diffusers name ("down_blocks.0.attentions.0...to_q") -> layer. Pointers live as long as
/// the module they were taken from.
using LayerIndex = std::map<std::string, AdaptableLayer*>;

}  // namespace molar
