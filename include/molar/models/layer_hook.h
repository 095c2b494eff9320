/// Linear and Conv2d as adapters see them: the one interface through which a LoRA reaches a layer.
#pragma once

#include <map>
#include <string>

#include "molar/core/tensor.h"

namespace molar {

/// A layer with a weight that adapters may replace. Implemented by Linear and Conv2d.
class AdaptableLayer {
 public:
  virtual ~AdaptableLayer() = default;
  /// Linear: [out, in], contiguous; Conv2d: [out, in, kh, kw], contiguous or channels-last. In the
  /// compute dtype of the model. Valid until the layer runs or its weight is set.
  virtual const Tensor& weight() const = 0;
  /// Same shape, dtype and device as weight(), in either layout named there; throws Error
  /// otherwise.
  virtual void set_weight(const Tensor& weight) = 0;
};

/// Dotted diffusers name ("down_blocks.0.attentions.0...to_q") -> layer. Pointers live as long as
/// the module they were taken from.
using LayerIndex = std::map<std::string, AdaptableLayer*>;

}  // namespace molar
