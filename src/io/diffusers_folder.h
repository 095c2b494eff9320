/// Reads a model as diffusers' save_pretrained writes it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "molar/io/checkpoint.h"

namespace molar {

/// Opens a folder with model_index.json. `options.vae` makes the folder's own VAE unnecessary and
/// `options.tokenizer` its tokenizers; both are filled in by open_checkpoint.
Checkpoint open_diffusers_folder(const std::filesystem::path& folder,
                                 const CheckpointOptions& options);

/// One component: config.json and weights, with normalised names. Adds its files to `files`.
/// Throws FileError: parts missing, pickles only, a class that is not `wanted_class`.
struct OpenedComponent {
  Component component;
  std::vector<std::filesystem::path> weight_files;
  std::filesystem::path config_file;
};
OpenedComponent open_component_folder(const std::filesystem::path& folder, const std::string& name);

/// Does the folder hold a tokenizer's files: tokenizer.json, or vocab.json and merges.txt?
bool is_tokenizer_folder(const std::filesystem::path& folder);

}  // namespace molar
