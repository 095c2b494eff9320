/// A Stable Diffusion checkpoint as data: components with config and weights, from a diffusers folder
/// or from a single .safetensors file. Both end in the same shape: diffusers' names.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "molar/io/json_config.h"
#include "molar/io/state_dict.h"

namespace molar {

/// What the checkpoint was told to be; names as LoRA files and metadata spell them.
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
  std::filesystem::path vae;        ///< replaces the VAE: a diffusers folder (or its vae/) or a single file
  std::filesystem::path tokenizer;  ///< replaces the tokenizers' folder
  std::filesystem::path clip_vocabulary;  ///< bpe_simple_vocab_16e6.txt.gz, for single-file checkpoints
  std::string prediction_type;  ///< "epsilon", "v_prediction", "sample"; empty: the model's own
};

/// Where one tokenizer's files are. Exactly one source is set by `open_checkpoint`.
struct TokenizerFiles {
  std::filesystem::path folder;      ///< vocab.json + merges.txt or tokenizer.json, tokenizer_config.json
  std::filesystem::path vocabulary;  ///< OpenCLIP's bpe_simple_vocab_16e6.txt.gz
  std::string pad_token;             ///< only with `vocabulary`: "<|endoftext|>" or "!"
};

/// Opened, mapped and checked for completeness; no weights are read yet.
struct Checkpoint {
  std::filesystem::path path;
  ModelFamily family;
  Json model_index;                             ///< model_index.json, or what stands for it
  Json scheduler_config;                        ///< scheduler/scheduler_config.json
  std::map<std::string, Component> components;  ///< by name
  std::map<std::string, TokenizerFiles> tokenizers;  ///< "tokenizer", "tokenizer_2"

  /// Throws FileError where the component is absent.
  const Component& component(const std::string& name) const;
  bool has(const std::string& name) const;
  /// Files that identify the model, weights first (for hashes in records).
  std::vector<std::filesystem::path> weight_files;
};

/// Opens a diffusers folder or a single-file checkpoint. Throws FileError: missing, pickle formats
/// (.ckpt .bin .pt .pth; says how to convert), an unknown architecture, missing parts.
Checkpoint open_checkpoint(const std::filesystem::path& path, const CheckpointOptions& options);

}  // namespace molar
