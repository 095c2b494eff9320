/// LoRA files as they are read against one model, kept while they fit into a limit of memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "molar/adapters/lora.h"
#include "molar/adapters/lora_io.h"
#include "molar/core/lru_cache.h"

namespace molar {

struct LoraFile {
  LoraWeights weights;
  std::string sha256;  ///< of the bytes after the header, as A1111 and kohya count it
};

class LoraFiles {
 public:
  /// `capacity_bytes` of factors are kept; 0: none.
  explicit LoraFiles(int64_t capacity_bytes) : files_(capacity_bytes) {}

  /// Reads the file unless it is kept and was not written since. Throws as load_lora.
  std::shared_ptr<const LoraFile> open(const std::filesystem::path& path, const ModelLayers& layers,
                                       const LoadLoraOptions& options);

 private:
  LruCache<LoraFile> files_;
};

/// Of all factors.
int64_t factor_bytes(const LoraWeights& weights);

}  // namespace molar
