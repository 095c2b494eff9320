#include "molar/adapters/lora_fuser.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"

namespace molar {
namespace {

/// `original` plus all changes, in its dtype, device and layout.
Tensor fused_weight(const Tensor& original, const std::vector<PlannedChange>& changes) {
  // A copy in any case: the original may be a read-only view of a file.
  const Tensor sum =
      at::empty_like(original, at::TensorOptions().dtype(at::kFloat)).copy_(original);
  for (const PlannedChange& change : changes) change.layer->add_delta_to_(sum, change.strength);
  return sum.to(original.scalar_type());
}

}  // namespace

LoraFuser::LoraFuser(ModelLayers layers, WeightSource source)
    : layers_(std::move(layers)), source_(std::move(source)) {}

AdaptableLayer& LoraFuser::layer(const LayerName& name) const {
  const auto component = layers_.components.find(name.component);
  if (component != layers_.components.end())
    if (const auto found = component->second.find(name.module); found != component->second.end())
      return *found->second;
  throw Error(fmt::format("the model has no layer '{}' in {}: the LoRA was loaded for another one",
                          name.module, name.component));
}

Tensor LoraFuser::original(const LayerName& name) {
  // A handle of its own: the layer's may come to stand for the weight that replaces this one.
  if (!changed_.contains(name)) return layer(name).weight().detach();
  return source_ ? source_(name) : kept_.at(name);
}

void LoraFuser::restore(const LayerName& name) {
  layer(name).set_weight(original(name));
  changed_.erase(name);
  kept_.erase(name);
}

void LoraFuser::attach(const std::vector<WeightedLora>& loras) {
  const c10::InferenceMode ordinary_tensors(false);  // the model outlives a caller's inference mode
  const c10::NoGradGuard no_grad;
  std::map<LayerName, std::vector<PlannedChange>> plan;
  for (const auto& [weights, strength] : loras)
    for (const auto& [name, change] : weights->layers) plan[name].push_back({&change, strength});
  try {
    for (const auto& [name, changes] : plan) layer(name);  // refuses before anything changes
    for (const LayerName& name : std::set<LayerName>(changed_))
      if (!plan.contains(name)) restore(name);
    fuse(plan);
  } catch (...) {
    detach();
    throw;
  }
}

void LoraFuser::reattach(const std::vector<WeightedLora>& loras, const std::set<LayerName>& names) {
  const c10::InferenceMode ordinary_tensors(false);
  const c10::NoGradGuard no_grad;
  std::map<LayerName, std::vector<PlannedChange>> plan;
  for (const LayerName& name : names)
    for (const auto& [weights, strength] : loras)
      if (const auto found = weights->layers.find(name); found != weights->layers.end())
        plan[name].push_back({&found->second, strength});
  for (const LayerName& name : names)
    if (!plan.contains(name) && changed_.contains(name)) restore(name);
  fuse(plan);
}

void LoraFuser::fuse(const std::map<LayerName, std::vector<PlannedChange>>& plan) {
  for (const auto& [name, changes] : plan) {
    AdaptableLayer& target = layer(name);
    const Tensor own = original(name);
    target.set_weight(fused_weight(own, changes));
    if (!source_) kept_.try_emplace(name, own);
    changed_.insert(name);
    release_mapped_pages(own);
  }
}

void LoraFuser::detach() {
  const c10::InferenceMode ordinary_tensors(false);
  for (const LayerName& name : std::set<LayerName>(changed_)) restore(name);
}

}  // namespace molar
