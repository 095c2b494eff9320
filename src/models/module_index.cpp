#include "molar/models/module_index.h"

#include <algorithm>

namespace molar {

LayerIndex adaptable_layers(const torch::nn::Module& module) {
  LayerIndex layers;
  for (const auto& entry : module.named_modules("", /*include_self=*/false))
    if (auto* layer = dynamic_cast<AdaptableLayer*>(entry.value().get()))
      layers.emplace(entry.key(), layer);
  return layers;
}

std::map<std::string, std::string> flattened_names(const LayerIndex& layers) {
  std::map<std::string, std::string> names;
  for (const auto& [name, layer] : layers) {
    std::string flat = name;
    std::ranges::replace(flat, '.', '_');
    const bool added = names.emplace(std::move(flat), name).second;
    TORCH_CHECK(added, "internal: two layers flatten to the name of ", name);
  }
  return names;
}

}  // namespace molar
