/// Which of a component folder's files are its weights.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "molar/io/state_dict.h"

namespace molar {

struct FolderWeights {
  StateDict tensors;
  std::vector<std::filesystem::path> files;
};

/// Maps `<stem>.safetensors`, or the shards that its index names; the full-precision file before
/// the fp16 and bf16 variants. Throws FileError: nothing there (names what is), only pickles (says
/// how to convert), an index that is broken, leaves the folder or does not fit its shards.
/// `model_folder` is what the user named: the conversion hint speaks of it.
FolderWeights open_folder_weights(const std::filesystem::path& folder, const std::string& stem,
                                  const std::filesystem::path& model_folder);

}  // namespace molar
