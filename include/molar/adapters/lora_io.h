/// LoRA files: read against a model, described without one.
#pragma once

#include <filesystem>
#include <string>

#include "molar/adapters/lora.h"
#include "molar/adapters/model_layers.h"

namespace molar {

struct LoadLoraOptions {
  /// Keys that fit nothing in the model are a counted warning that names the first ones, as long as
  /// any layer fits. Default: an error.
  bool allow_partial = false;
};

/// Reads a .safetensors file in any key family, a PEFT folder (adapter_model.safetensors and
/// adapter_config.json; also one such folder per component under unet/, text_encoder/,
/// text_encoder_2/), or a diffusers folder (pytorch_lora_weights.safetensors). Every shape is
/// checked against its layer; tensors stay views of the mapped file.
///
/// Throws FileError: missing, pickle (says how to convert), a checkpoint or a textual inversion
/// instead of a LoRA, half of a pair, NaN or infinity in a factor, a kind not supported (DoRA, OFT,
/// (IA)3, GLoRA, full differences; named, with what to do). Throws FitError, with the first keys
/// and a guess of the model that the file was made for: nothing fits, or only part of it and not
/// `allow_partial`.
LoraWeights load_lora(const std::filesystem::path& path, const ModelLayers& layers,
                      const LoadLoraOptions& options = {});

}  // namespace molar
