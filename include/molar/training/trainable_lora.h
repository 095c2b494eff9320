/// LoRA factors that gradients flow to, beside the layers of a frozen model.
#pragma once

#include <torch/torch.h>

#include <map>
#include <set>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/adapters/model_layers.h"
#include "molar/training/lora_training_options.h"

namespace molar {

/// One layer's factors, float32 leaves on the layer's device.
struct TrainableFactors {
  Tensor down;  ///< [r, in] or [r, in, kh, kw]
  Tensor up;    ///< [out, r] or [out, r, 1, 1]
};

/// Layers of the targets, as `rank` factors each: y = W x + b + scale * up(down(x)).
///
/// The low-rank path is added to the layer's result (AdaptableLayer::set_residual) rather than its
/// product to the weight: no matrix of the weight's size is made, neither forward nor for the
/// gradient, and the weight stays the mapped file's.
class TrainableLora {
 public:
  /// Draws the factors as Note [Order of randomness] has it and attaches them until destruction.
  /// `layers` point into modules that must outlive this. Throws ConfigError for a target that no
  /// layer of the model belongs to.
  TrainableLora(const ModelLayers& layers, const LoraTrainingOptions& options);
  ~TrainableLora();
  TrainableLora(const TrainableLora&) = delete;
  TrainableLora& operator=(const TrainableLora&) = delete;

  const std::map<LayerName, TrainableFactors>& factors() const { return factors_; }
  /// down, up, down, up, ... in the order of LayerName.
  std::vector<Tensor> parameters() const;
  /// The factors as they are now, as views.
  LoraWeights weights() const;

 private:
  double scale_;
  std::map<LayerName, TrainableFactors> factors_;
  std::vector<AdaptableLayer*> attached_;
};

}  // namespace molar
