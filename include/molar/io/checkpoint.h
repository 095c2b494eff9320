/// A Stable Diffusion checkpoint as data: components with config and weights, from a diffusers
/// folder or from a single .safetensors file. Both end in the same shape: diffusers' names.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "molar/io/json_config.h"
#include "molar/io/state_dict.h"

namespace molar {

/// What the model is; names as LoRA files and metadata spell them.
///
/// Note [Telling the family]. A diffusers folder: SDXL where the UNet takes text_time embeddings
/// (the pipeline must be SDXL's then, and only then); else SD 2.x where attention_head_dim is a
/// list or the transformers project linearly; else SD 1.x. Sizes decide nothing: small models work
/// too. A single file: by the text encoders' layout (CLIP's, OpenCLIP's, or both).
enum class ModelFamily { kSd1, kSd2, kSdxl };
std::string_view family_name(ModelFamily family);  ///< "SD 1.x", "SD 2.x", "SDXL"

/// One model: `config` is its config.json, `weights` its tensors under diffusers' names
/// (text encoders always with the `text_model.` prefix, whatever wrote them).
struct Component {
  std::string name;    ///< "unet", "vae", "text_encoder", "text_encoder_2"
  std::string source;  ///< file or folder, for messages
  Json config;
  StateDict weights;
};

struct CheckpointOptions {
  /// Replaces the VAE: a diffusers folder, its vae/, or a single file (a VAE alone under diffusers'
  /// or LDM names, or a whole checkpoint). A single file gets the family's scaling factor.
  std::filesystem::path vae = {};
  /// Replaces the tokenizers: a folder with tokenizer/ (and tokenizer_2/), or one tokenizer's
  /// files.
  std::filesystem::path tokenizer = {};
  /// bpe_simple_vocab_16e6.txt.gz, for single-file checkpoints.
  std::filesystem::path clip_vocabulary = {};
  /// "epsilon", "v_prediction", "sample"; empty: the model's own.
  std::string prediction_type = {};
};

/// Where one tokenizer's files are. One source is set; none for a single file opened without
/// `clip_vocabulary` (enough to inspect or merge, not to encode a prompt).
struct TokenizerFiles {
  std::filesystem::path folder;      ///< tokenizer.json, or vocab.json and merges.txt
  std::filesystem::path vocabulary;  ///< OpenCLIP's bpe_simple_vocab_16e6.txt.gz
  /// "<|endoftext|>" or "!". Set with `vocabulary`, and for SDXL's second tokenizer where one
  /// folder serves both; empty: what the folder's own files say.
  std::string pad_token;
};

/// Opened, mapped and checked for completeness; no weights are read yet.
struct Checkpoint {
  std::filesystem::path path;
  ModelFamily family = ModelFamily::kSd1;
  Json model_index;                                  ///< model_index.json, or what stands for it
  Json scheduler_config;                             ///< scheduler/scheduler_config.json
  std::map<std::string, Component> components;       ///< by name
  std::map<std::string, TokenizerFiles> tokenizers;  ///< "tokenizer", "tokenizer_2"

  /// Throws FileError where the component is absent.
  const Component& component(const std::string& name) const;
  bool has(const std::string& name) const;
  /// Files that identify the model (for hashes in records): the UNet's weights first, then the
  /// other components' weights, then the configs.
  std::vector<std::filesystem::path> weight_files;
};

/// Opens a diffusers folder or a single-file checkpoint. Throws FileError: missing, pickle formats
/// (.ckpt .bin .pt .pth; says how to convert), another kind of file (a LoRA, a VAE, another
/// architecture: named), missing parts, unknown tensors; ConfigError: an unknown prediction type.
///
/// Note [Config of a single file]. Block counts, widths, depths and context size come from names
/// and shapes. Head counts do not show in them: SD 1.x has 8 heads per block; SD 2.x, SDXL and the
/// text encoders one head per 64 channels. Groups, activations, scheduler and picture size are the
/// family's. The metadata entry `molar.config`, a JSON object {"unet": {...}, "vae": {...},
/// "text_encoder": {...}, "text_encoder_2": {...}, "scheduler": {...}}, replaces single fields.
/// Prediction type: the option; else `molar.config`; else the marker tensors `v_pred` and `ztsnr`;
/// else the metadata `modelspec.prediction_type`; else epsilon for SD 1.x, SDXL and inpainting. An
/// SD 2.x file does not say: one bias of its last transformer block tells by its spread (ComfyUI's
/// rule); where it cannot, v_prediction is assumed with a warning.
Checkpoint open_checkpoint(const std::filesystem::path& path, const CheckpointOptions& options);

}  // namespace molar
