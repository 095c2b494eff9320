/// LoRA files: the spellings that other tools read.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "molar/adapters/lora.h"

namespace molar {

enum class LoraFormat {
  kKohya,      ///< lora_unet_a_b.lora_down.weight, with alpha beside each pair: read everywhere
  kDiffusers,  ///< unet.a.b.lora_A.weight, alpha in the metadata, as save_lora_weights writes it
};

/// "kohya", "diffusers".
std::string_view lora_format_name(LoraFormat format);
/// Throws ConfigError for another name.
LoraFormat parse_lora_format(std::string_view name);

/// A LoRA as the tensors and metadata of a safetensors file.
struct LoraFileContent {
  StateDict tensors;
  std::map<std::string, std::string> metadata;
};

/// Spells `lora`, whose layers are all of low rank (LowRankFactors without mid). kDiffusers can
/// hold one rank and one alpha per component: another scale goes into the factor `up`. `metadata`
/// is added to what the format asks for.
LoraFileContent spell_lora(const LoraWeights& lora, ModelFamily family, LoraFormat format,
                           const std::map<std::string, std::string>& metadata);

}  // namespace molar
