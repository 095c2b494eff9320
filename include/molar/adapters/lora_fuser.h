/// Writes LoRAs into a model's weights and takes them out again, bit for bit.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/adapters/model_layers.h"

namespace molar {

/// A LoRA and its strength W. The weights must outlive the call that they are given to, no longer.
struct WeightedLora {
  const LoraWeights* weights;
  double strength = 1.0;
};

/// What one layer is to become: its changes and their strengths.
struct PlannedChange {
  const LoraLayer* layer;
  double strength;
};

/// W' = W + sum_i strength_i * delta_i, layer by layer: at most one layer exists twice at any time.
/// Sums in float32; the result has the weight's dtype, device and memory layout.
/// Call order: (attach | detach)*. Destruction leaves the model as it is.
class LoraFuser {
 public:
  /// `layers` point into modules that must outlive every later call. `source` gives original
  /// weights back; where it is empty the fuser keeps the original tensors instead (one copy of each
  /// changed layer).
  LoraFuser(ModelLayers layers, WeightSource source);

  /// Replaces whatever was attached. Always starts from the original weights, so nothing adds up
  /// over repeated calls. If it throws, the model is as after detach(). Throws Error for a layer
  /// that the model lacks: the LoRA was loaded for another model.
  void attach(const std::vector<WeightedLora>& loras);
  /// As attach, for the layers `names` alone; the others stay as they are.
  void reattach(const std::vector<WeightedLora>& loras, const std::set<LayerName>& names);
  /// Gives every changed layer its own weight back. No effect where nothing is attached.
  void detach();

  bool attached() const { return !changed_.empty(); }
  /// Layers that are changed now.
  int64_t num_changed_layers() const { return static_cast<int64_t>(changed_.size()); }

 private:
  AdaptableLayer& layer(const LayerName& name) const;
  Tensor original(const LayerName& name);
  void restore(const LayerName& name);
  void fuse(const std::map<LayerName, std::vector<PlannedChange>>& plan);

  ModelLayers layers_;
  WeightSource source_;
  std::set<LayerName> changed_;
  std::map<LayerName, Tensor> kept_;  // only without a source
};

}  // namespace molar
