/// Small sets of experts for the model of lora_fixtures.h.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "../lora_fixtures.h"
#include "molar/adapters/mole/expert_set.h"

namespace molar::test {

inline const std::vector<LayerName> kExpertLayers = {kToQ, kToK, kProjIn};

inline std::string lora_key(const LayerName& layer) {
  std::string flat = layer.module;
  for (char& c : flat)
    if (c == '.') c = '_';
  return "lora_unet_" + flat;
}

/// The gates of `experts` for kExpertLayers, as MoLE spells them.
inline StateDict gate_tensors(const FakeModel& model, const std::vector<std::string>& experts) {
  StateDict tensors;
  uint64_t seed = 100;
  const auto count = static_cast<int64_t>(experts.size());
  for (const LayerName& layer : kExpertLayers) {
    const auto shape = model.original(layer).sizes();
    const std::string key = "moe_" + lora_key(layer) + ".softmoe.";
    tensors[key + "Phi_1.weight"] = noise({count, shape[1]}, ++seed);
    tensors[key + "Phi_1.bias"] = noise({count}, ++seed);
    for (const std::string& expert : experts) {
      tensors[key + expert + "_scale.weight"] = noise({1, shape[0]}, ++seed);
      tensors[key + expert + "_scale.bias"] = noise({1}, ++seed);
    }
  }
  return tensors;
}

/// A kohya LoRA of kExpertLayers, alpha half the rank.
inline StateDict expert_tensors(const FakeModel& model, int64_t rank, uint64_t seed) {
  StateDict tensors;
  for (const LayerName& layer : kExpertLayers) {
    std::vector<int64_t> down = model.original(layer).sizes().vec(), up = down;
    down[0] = rank;
    up[1] = rank;
    tensors[lora_key(layer) + ".lora_down.weight"] = noise(down, ++seed);
    tensors[lora_key(layer) + ".lora_up.weight"] = noise(up, ++seed);
    tensors[lora_key(layer) + ".alpha"] = at::scalar_tensor(0.5 * static_cast<double>(rank));
  }
  return tensors;
}

/// face.safetensors (rank 2), hand.safetensors (rank 3) and gates.safetensors.
inline void write_expert_set(const TempFolder& folder, const FakeModel& model) {
  write_tensors(folder, "face.safetensors", expert_tensors(model, 2, 1));
  write_tensors(folder, "hand.safetensors", expert_tensors(model, 3, 20));
  write_tensors(folder, "gates.safetensors", gate_tensors(model, {"face", "hand"}));
}

}  // namespace molar::test
