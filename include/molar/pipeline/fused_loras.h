/// One component's LoRAs in its weights, and how they change while a picture is sampled.
#pragma once

#include <map>
#include <vector>

#include "molar/adapters/lora_fuser.h"
#include "molar/adapters/merge/merge_method.h"

namespace molar {

/// A LoRA of the stack, its own copy of the layers' factors (which are shared), and its strength.
struct StackedLora {
  LoraWeights weights;
  double strength = 1.0;
};

class FusedLoras {
 public:
  /// Fuses all of `loras` as they are at the start. `switches` exchange layers of the first.
  /// `layers` and `source` as LoraFuser has them.
  FusedLoras(ModelLayers layers, WeightSource source, std::vector<StackedLora> loras,
             std::map<LayerName, LayerSwitch> switches);

  /// Exchanges the layers whose moment has come, or is not yet there, when `share` of the sampling
  /// steps is done (0 for the first). Free where nothing is exchanged.
  void reach(double share);

  /// Gives every layer its own weight back; destruction leaves them as they are.
  void detach() { fuser_.detach(); }

  int64_t num_changed_layers() const { return fuser_.num_changed_layers(); }

 private:
  std::vector<WeightedLora> weighted() const;

  LoraFuser fuser_;
  std::vector<StackedLora> loras_;
  struct Switch {
    double at = 0;
    bool done = false;
  };
  std::map<LayerName, Switch> switches_;
  std::map<LayerName, LoraLayer> waiting_;  // of those layers, what does not act now
};

}  // namespace molar
