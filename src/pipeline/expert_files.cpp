#include "molar/pipeline/expert_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "molar/io/file.h"
#include "molar/io/hash.h"
#include "molar/pipeline/lora_files.h"

namespace molar {
namespace {

int64_t set_bytes(const ExpertSet& set) {
  int64_t bytes = 0;
  for (const Expert& expert : set.experts) bytes += factor_bytes(expert.weights);
  for (const auto& [name, gates] : set.gates.layers)
    for (const Tensor& tensor :
         {gates.local_weight, gates.local_bias, gates.global_weight, gates.global_bias})
      bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

}  // namespace

std::shared_ptr<const ExpertFolder> ExpertFiles::open(const std::filesystem::path& path,
                                                      const ModelLayers& layers,
                                                      const LoadLoraOptions& options) {
  const std::string key =
      fmt::format("{}|{}|{}", path.string(), file_state(path), options.allow_partial);
  if (auto kept = folders_.find(key)) return kept;
  auto folder = std::make_shared<ExpertFolder>();
  folder->set = load_expert_set(path, layers, options);
  for (const Expert& expert : folder->set.experts)
    folder->sha256.push_back(sha256_safetensors_data(expert.weights.path));
  folder->sha256.push_back(sha256_safetensors_data(folder->set.gates.path));
  spdlog::info("experts {}: {} on {} layers", path.string(),
               fmt::join(folder->set.gates.experts, ", "), folder->set.gates.layers.size());
  const int64_t bytes = set_bytes(folder->set);
  return folders_.insert(key, std::move(folder), bytes);
}

}  // namespace molar
