/// Linear and Conv2d as adapters see them: the one interface through which a LoRA reaches a layer.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "molar/core/tensor.h"

namespace molar {

/// Adds an adapter's change to a layer's result. x: the layer's input as the layer got it, [...,
/// in] for a Linear and for a 1x1 convolution that runs on tokens, else [B, in, H, W]. y: the
/// layer's own result; nobody else reads it, so that its memory may be reused. Returns y plus the
/// change, in the shape and type of y. Autograd flows through it.
using LayerResidual = std::function<Tensor(const Tensor& x, const Tensor& y)>;

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
  /// From now on every result of the layer goes through `residual`; an empty one ends that.
  void set_residual(LayerResidual residual) { residual_ = std::move(residual); }
  bool has_residual() const { return static_cast<bool>(residual_); }

 protected:
  /// y: the layer's own result of x.
  Tensor with_residual(const Tensor& x, const Tensor& y) const {
    return residual_ ? residual_(x, y) : y;
  }

 private:
  LayerResidual residual_;
};

/// Dotted diffusers name ("down_blocks.0.attentions.0...to_q") -> layer. Pointers live as long as
/// the module they were taken from.
using LayerIndex = std::map<std::string, AdaptableLayer*>;

}  // namespace molar
