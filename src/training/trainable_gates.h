/// Gates that gradients flow to, with their frozen experts beside the layers of a frozen UNet.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "molar/adapters/mole/expert_layer.h"
#include "molar/adapters/mole/expert_set.h"
#include "molar/training/gate_training_options.h"
#include "named_adamw.h"

namespace molar {

class TrainableGates {
 public:
  /// Draws the gates as Note [Order of randomness] has it and attaches them, with the experts, to
  /// the layers that those change, until destruction. `unet`: its layers, which must outlive this.
  TrainableGates(const LayerIndex& unet, const std::vector<Expert>& experts, LearntGates learnt,
                 uint64_t seed);
  ~TrainableGates();
  TrainableGates(const TrainableGates&) = delete;
  TrainableGates& operator=(const TrainableGates&) = delete;

  /// "MODULE/local_weight" and so on: float32 leaves, in the order of the layers; of the learnt
  /// kind alone.
  NamedParameters parameters() const;
  /// The gates as they are now, as views; no path.
  ExpertGates gates() const;
  /// What they were since the last call, averaged over layers, rows and tokens:
  /// {"local_face", 0.4}, {"global_face", 0.6}, ...
  std::vector<std::pair<std::string, double>> take_statistics();

 private:
  struct Layer {
    AdaptableLayer* target;
    StackedExperts experts;
    LayerGates gates;
  };
  Tensor forward(const Layer& layer, const Tensor& x, const Tensor& y);

  LearntGates learnt_;
  std::vector<std::string> names_;
  std::map<LayerName, Layer> layers_;
  Tensor sums_;  // [2, E]: local and global gates, summed over the calls
  int64_t num_calls_ = 0;
};

}  // namespace molar
