#include "molar/pipeline/fused_loras.h"

#include <utility>

namespace molar {

FusedLoras::FusedLoras(ModelLayers layers, WeightSource source, std::vector<StackedLora> loras,
                       std::map<LayerName, LayerSwitch> switches)
    : fuser_(std::move(layers), std::move(source)), loras_(std::move(loras)) {
  for (auto& [name, change] : switches) {
    switches_[name].at = change.at;
    waiting_.emplace(name, std::move(change.then));
  }
  fuser_.attach(weighted());
}

std::vector<WeightedLora> FusedLoras::weighted() const {
  std::vector<WeightedLora> weighted;
  for (const StackedLora& lora : loras_) weighted.push_back({&lora.weights, lora.strength});
  return weighted;
}

void FusedLoras::reach(double share) {
  std::set<LayerName> exchanged;
  for (auto& [name, change] : switches_) {
    if (change.done == (share >= change.at)) continue;
    change.done = !change.done;
    auto acting = loras_.front().weights.layers.extract(name), waiting = waiting_.extract(name);
    loras_.front().weights.layers.insert(std::move(waiting));
    waiting_.insert(std::move(acting));
    exchanged.insert(name);
  }
  if (!exchanged.empty()) fuser_.reattach(weighted(), exchanged);
}

}  // namespace molar
