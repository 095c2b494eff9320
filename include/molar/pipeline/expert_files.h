/// Folders of experts as they are read against one model, kept while they fit into a limit of
/// memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "molar/adapters/lora_io.h"
#include "molar/adapters/model_layers.h"
#include "molar/adapters/mole/expert_set.h"
#include "molar/core/lru_cache.h"

namespace molar {

struct ExpertFolder {
  ExpertSet set;
  /// Of each expert, then of the gates; as LoraFile has it.
  std::vector<std::string> sha256;
};

class ExpertFiles {
 public:
  /// `capacity_bytes` of factors and gates are kept; 0: none.
  explicit ExpertFiles(int64_t capacity_bytes) : folders_(capacity_bytes) {}

  /// Reads the folder unless it is kept and nothing in it was written since. Throws as
  /// load_expert_set.
  std::shared_ptr<const ExpertFolder> open(const std::filesystem::path& path,
                                           const ModelLayers& layers,
                                           const LoadLoraOptions& options);

 private:
  LruCache<ExpertFolder> folders_;
};

}  // namespace molar
