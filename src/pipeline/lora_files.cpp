#include "molar/pipeline/lora_files.h"

#include <fmt/format.h>

#include "molar/io/file.h"
#include "molar/io/hash.h"

namespace molar {

int64_t factor_bytes(const LoraWeights& weights) {
  int64_t bytes = 0;
  for (const auto& [name, layer] : weights.layers)
    for (const Tensor& tensor : layer.tensors()) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

std::shared_ptr<const LoraFile> LoraFiles::open(const std::filesystem::path& path,
                                                const ModelLayers& layers,
                                                const LoadLoraOptions& options) {
  const std::string key =
      fmt::format("{}|{}|{}", path.string(), file_state(path), options.allow_partial);
  if (auto kept = files_.find(key)) return kept;
  auto file = std::make_shared<LoraFile>(load_lora(path, layers, options));
  file->sha256 = sha256_safetensors_data(file->weights.path);
  const int64_t bytes = factor_bytes(file->weights);
  return files_.insert(key, std::move(file), bytes);
}

}  // namespace molar
