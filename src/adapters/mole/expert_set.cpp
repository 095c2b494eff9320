#include "molar/adapters/mole/expert_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "molar/core/error.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFileEnd = ".safetensors";

/// A file that nothing gates would be left out silently.
void refuse_experts_without_gates(const fs::path& folder, const ExpertGates& gates) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == kFileEnd && entry.path().filename() != kGatesFile &&
        is_expert_name(entry.path().stem().string()))  // not face.checkpoint, of a training
      paths.push_back(entry.path());
  std::ranges::sort(paths);
  for (const fs::path& path : paths)
    if (std::ranges::find(gates.experts, path.stem().string()) == gates.experts.end())
      throw FitError(fmt::format(
          "'{}' has no gates: '{}' holds none named {}_scale, only those of {}", path.string(),
          gates.path.string(), path.stem().string(), fmt::join(gates.experts, ", ")));
}

void refuse_other_components(const Expert& expert) {
  for (const auto& [layer, change] : expert.weights.layers)
    if (layer.component != "unet")
      throw FitError(
          fmt::format("expert '{}' changes '{}' of {}; wanted a LoRA of the UNet alone, which is "
                      "where experts act",
                      expert.weights.path.string(), layer.module, layer.component));
}

void check_fit(const Expert& expert, const ExpertGates& gates) {
  refuse_other_components(expert);
  const std::string file = expert.weights.path.string();
  for (const auto& [layer, change] : expert.weights.layers) {
    if (!gates.layers.contains(layer))
      throw FitError(
          fmt::format("gates '{}': tensor '{}' is missing, but expert '{}' changes the "
                      "layer; are they of one set?",
                      gates.path.string(), gate_tensor_name(layer, "Phi_1.weight"), file));
  }
  for (const auto& [layer, of_layer] : gates.layers)
    if (!expert.weights.layers.contains(layer))
      throw FitError(fmt::format(
          "expert '{}' does not change layer '{}', but gates '{}' hold its '{}'; are they of one "
          "set?",
          file, layer.module, gates.path.string(),
          gate_tensor_name(layer, expert.name + "_scale.weight")));
}

/// Both change the same layers.
void require_same_layers(const Expert& first, const Expert& other) {
  for (const auto& [one, another] : {std::pair{&first, &other}, {&other, &first}})
    for (const auto& [layer, change] : one->weights.layers)
      if (!another->weights.layers.contains(layer))
        throw FitError(
            fmt::format("expert '{}' does not change layer '{}', but '{}' does; experts that share "
                        "gates change the same layers",
                        another->weights.path.string(), layer.module, one->weights.path.string()));
}

}  // namespace

fs::path expert_path(const fs::path& folder, const std::string& name) {
  return folder / (name + kFileEnd);
}

std::vector<Expert> load_experts(const fs::path& folder, const std::vector<std::string>& names,
                                 const ModelLayers& layers) {
  std::vector<Expert> experts;
  for (const std::string& name : names) {
    experts.push_back({name, load_lora(expert_path(folder, name), layers)});
    const Expert& expert = experts.back();
    refuse_other_components(expert);
    for (const auto& [layer, change] : expert.weights.layers)
      if (const auto& shape = change.weight_shape; shape.size() == 4 && shape[2] * shape[3] != 1)
        throw FitError(
            fmt::format("expert '{}' changes the {}x{} convolution '{}'; experts act on linear "
                        "layers and 1x1 convolutions",
                        expert.weights.path.string(), shape[2], shape[3], layer.module));
    require_same_layers(experts.front(), expert);
  }
  return experts;
}

bool is_expert_set(const fs::path& folder) { return fs::exists(folder / kGatesFile); }

ExpertSet load_expert_set(const fs::path& folder, const ModelLayers& layers,
                          const LoadLoraOptions& options) {
  if (!fs::is_directory(folder))
    throw FileError(fmt::format("experts '{}': wanted a folder with {} and NAME{} for each expert",
                                folder.string(), kGatesFile, kFileEnd));
  ExpertSet set{
      .folder = folder, .gates = load_expert_gates(folder / kGatesFile, layers), .experts = {}};
  refuse_experts_without_gates(folder, set.gates);
  for (const std::string& name : set.gates.experts) {
    const fs::path file = expert_path(folder, name);
    if (!fs::exists(file))
      throw FileError(fmt::format("expert '{}' is missing: '{}' holds gates for {}", file.string(),
                                  set.gates.path.string(), fmt::join(set.gates.experts, ", ")));
    set.experts.push_back({name, load_lora(file, layers, options)});
    check_fit(set.experts.back(), set.gates);
  }
  return set;
}

}  // namespace molar
