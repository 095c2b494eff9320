/// Single .safetensors checkpoints as Stability AI, CompVis and their fine-tuners publish them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "molar/io/checkpoint.h"
#include "molar/io/safetensors.h"

namespace molar {

// ---- single_file_identify.cpp ------------------------------------------------------------------

/// Throws FileError for a file that is something else: a LoRA, a ControlNet, another
/// architecture... The message says what, and how to use it where we can.
void refuse_foreign_file(const SafetensorsFile& file);

// ---- single_file_parts.cpp ---------------------------------------------------------------------

/// A checkpoint's tensors under diffusers' names, as views of the file.
struct SingleFileParts {
  ModelFamily family = ModelFamily::kSd1;
  StateDict unet, vae, text_encoder, text_encoder_2;  ///< empty where the family has none
  int64_t layers_per_block = 0;                       ///< of the UNet
  bool v_pred_marker = false, ztsnr_marker = false;
};
/// Throws FileError: a part missing (VAE: unless `vae_replaced`), only EMA weights, unknown
/// tensors.
SingleFileParts split_single_file(const SafetensorsFile& file, bool vae_replaced);

/// The VAE of a file: alone under diffusers' or LDM names, or inside a whole checkpoint.
/// Throws FileError where there is none.
StateDict vae_of_single_file(const SafetensorsFile& file);

// ---- single_file_config.cpp: see Note [Config of a single file] --------------------------------

Json unet_config(const SingleFileParts& parts, const Json& overrides, const std::string& source);
Json vae_config(const StateDict& vae, ModelFamily family, bool inpainting,
                const std::string& source);
/// `component`: "text_encoder" or "text_encoder_2".
Json text_encoder_config(const SingleFileParts& parts, const std::string& component,
                         const Json& overrides, const std::string& source);
/// Without prediction type; see single_file.cpp.
Json scheduler_config(ModelFamily family, bool inpainting);

// ---- single_file.cpp ---------------------------------------------------------------------------

/// The metadata entry `molar.config`: {component: {field: value}}, an empty object for every
/// component that it does not name. Throws FileError where it is anything else.
Json config_overrides(const SafetensorsFile& file);

Checkpoint open_single_file(const std::filesystem::path& path, const CheckpointOptions& options);

}  // namespace molar
