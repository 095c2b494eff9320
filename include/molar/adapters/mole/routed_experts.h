/// A set of experts beside the layers of a UNet.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "molar/adapters/mole/expert_layer.h"
#include "molar/adapters/mole/expert_set.h"

namespace molar {

struct RoutedExpertsOptions {
  /// By the expert's name; one that is absent has 1.
  std::map<std::string, double> strengths;
  double cap = 0;  ///< as ExpertLimits has it
};

/// Sees the gates of one call of one layer.
using GateObserver = std::function<void(const std::string& module, const GateValues& values)>;
/// The mask of a layer; an empty one where it has none.
using LayerMask = std::function<ExpertMask(const std::string& module)>;

/// Attached to the layers from construction to destruction.
/// Call order: (act | mask | observe)* between calls of the UNet.
class RoutedExperts {
 public:
  /// `unet`: its layers, which must outlive this; `set` fits them and need not. The factors are
  /// copied, in the layers' type and device.
  RoutedExperts(const LayerIndex& unet, const ExpertSet& set, const RoutedExpertsOptions& options);
  ~RoutedExperts();
  RoutedExperts(const RoutedExperts&) = delete;
  RoutedExperts& operator=(const RoutedExperts&) = delete;

  /// False: the UNet is the base model, at its cost. True at the start.
  void act(bool acting);
  /// Asks once for each layer; an empty function ends all masks.
  void mask(const LayerMask& mask_of);
  /// From now on; empty: nobody looks.
  void observe(GateObserver observer) { observer_ = std::move(observer); }

  int64_t num_layers() const { return static_cast<int64_t>(layers_.size()); }

 private:
  struct Layer {
    AdaptableLayer* target;
    ExpertLayer experts;
    ExpertLimits limits;
  };
  Tensor forward(const std::string& module, const Layer& layer, const Tensor& x,
                 const Tensor& y) const;

  std::map<std::string, Layer> layers_;
  GateObserver observer_;
  bool acting_ = false;
};

}  // namespace molar
