#include "molar/adapters/mole/expert_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "molar/core/error.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFileEnd = ".safetensors";

/// A file that nothing gates would be left out silently.
void refuse_experts_without_gates(const fs::path& folder, const ExpertGates& gates) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == kFileEnd && entry.path().filename() != kGatesFile)
      paths.push_back(entry.path());
  std::ranges::sort(paths);
  for (const fs::path& path : paths)
    if (std::ranges::find(gates.experts, path.stem().string()) == gates.experts.end())
      throw FitError(fmt::format(
          "'{}' has no gates: '{}' holds none named {}_scale, only those of {}", path.string(),
          gates.path.string(), path.stem().string(), fmt::join(gates.experts, ", ")));
}

void check_fit(const Expert& expert, const ExpertGates& gates) {
  const std::string file = expert.weights.path.string();
  for (const auto& [layer, change] : expert.weights.layers) {
    if (layer.component != "unet")
      throw FitError(
          fmt::format("expert '{}' changes '{}' of {}; wanted a LoRA of the UNet alone, which is "
                      "where experts act",
                      file, layer.module, layer.component));
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

}  // namespace

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
    const fs::path file = folder / (name + kFileEnd);
    if (!fs::exists(file))
      throw FileError(fmt::format("expert '{}' is missing: '{}' holds gates for {}", file.string(),
                                  set.gates.path.string(), fmt::join(set.gates.experts, ", ")));
    set.experts.push_back({name, load_lora(file, layers, options)});
    check_fit(set.experts.back(), set.gates);
  }
  return set;
}

}  // namespace molar
