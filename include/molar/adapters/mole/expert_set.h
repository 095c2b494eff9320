/// A folder of named experts and the gates that were trained with them.
#pragma once

#include <filesystem>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/adapters/lora_io.h"
#include "molar/adapters/model_layers.h"
#include "molar/adapters/mole/expert_gates.h"

namespace molar {

/// What a folder of experts holds beside NAME.safetensors.
inline constexpr const char* kGatesFile = "gates.safetensors";

/// An expert: a LoRA file for the UNet, named by its file name alone.
struct Expert {
  std::string name;
  LoraWeights weights;
};

struct ExpertSet {
  std::filesystem::path folder;
  ExpertGates gates;
  std::vector<Expert> experts;  ///< in the order of the gates' rows
};

/// Whether the folder holds a set: a gates.safetensors.
bool is_expert_set(const std::filesystem::path& folder);

/// Reads `folder`: gates.safetensors, and NAME.safetensors for each name in it. Throws FileError:
/// no folder, a file missing or broken. Throws FitError: what load_expert_gates and load_lora
/// throw; an expert without gates, for a layer or at all; gates of a layer that an expert does not
/// change; an expert that changes a text encoder.
ExpertSet load_expert_set(const std::filesystem::path& folder, const ModelLayers& layers,
                          const LoadLoraOptions& options = {});

}  // namespace molar
