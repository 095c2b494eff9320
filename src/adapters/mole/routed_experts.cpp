#include "molar/adapters/mole/routed_experts.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "molar/io/safetensors.h"

namespace molar {

RoutedExperts::RoutedExperts(const LayerIndex& unet, const ExpertSet& set,
                             const RoutedExpertsOptions& options) {
  const c10::InferenceMode ordinary_tensors(false);  // they outlive a caller's inference mode
  const at::NoGradGuard no_grad;
  std::vector<double> strengths;
  for (const Expert& expert : set.experts) {
    const auto found = options.strengths.find(expert.name);
    strengths.push_back(found == options.strengths.end() ? 1.0 : found->second);
  }
  for (const auto& [name, gates] : set.gates.layers) {
    std::vector<LoraMatrices> factors;
    for (const Expert& expert : set.experts)
      factors.push_back(expert.weights.layers.at(name).matrices());
    const StackedExperts stacked = stack_experts(factors);
    AdaptableLayer* target = unet.at(name.module);
    const Tensor& weight = target->weight();
    layers_.emplace(name.module,
                    Layer{.target = target,
                          .experts = ExpertLayer(stacked, gate_rows(stacked, gates), strengths)
                                         .to(weight.device(), weight.scalar_type()),
                          .limits = {.cap = options.cap}});
    for (const Expert& expert : set.experts)
      for (const Tensor& factor : expert.weights.layers.at(name).tensors())
        release_mapped_pages(factor);
  }
  act(true);
}

RoutedExperts::~RoutedExperts() { act(false); }

void RoutedExperts::act(bool acting) {
  if (acting == acting_) return;
  acting_ = acting;
  for (const auto& entry : layers_) {
    if (!acting) {
      entry.second.target->set_residual({});
      continue;
    }
    entry.second.target->set_residual([this, &entry](const Tensor& x, const Tensor& y) {
      return forward(entry.first, entry.second, x, y);
    });
  }
}

void RoutedExperts::mask(const LayerMask& mask_of) {
  for (auto& [module, layer] : layers_)
    layer.limits.mask = mask_of ? mask_of(module) : ExpertMask();
}

Tensor RoutedExperts::forward(const std::string& module, const Layer& layer, const Tensor& x,
                              const Tensor& y) const {
  if (!observer_) return layer.experts.forward(*layer.target, x, y, layer.limits);
  GateValues values;
  const Tensor result = layer.experts.forward(*layer.target, x, y, layer.limits, &values);
  observer_(module, values);
  return result;
}

}  // namespace molar
