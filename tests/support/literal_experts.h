/// The literal form of MoLE on every layer of a UNet.
#pragma once

#include <vector>

#include "molar/adapters/mole/expert_set.h"
#include "support/literal_mole.h"

namespace molar::test {

/// Attached until destruction. The factors are copied.
class LiteralExperts {
 public:
  LiteralExperts(const LayerIndex& unet, const ExpertSet& set) {
    for (const auto& [name, gates] : set.gates.layers) {
      std::vector<LoraMatrices> factors;
      for (const Expert& expert : set.experts)
        factors.push_back(expert.weights.layers.at(name).matrices());
      attached_.push_back(unet.at(name.module));
      attached_.back()->set_residual([factors, gates = gates](const Tensor& x, const Tensor& y) {
        return literal_mole(x, y, factors, gates).result;
      });
    }
  }
  ~LiteralExperts() {
    for (AdaptableLayer* target : attached_) target->set_residual({});
  }
  LiteralExperts(const LiteralExperts&) = delete;
  LiteralExperts& operator=(const LiteralExperts&) = delete;

 private:
  std::vector<AdaptableLayer*> attached_;
};

}  // namespace molar::test
