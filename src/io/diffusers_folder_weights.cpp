#include "diffusers_folder_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "checkpoint_parts.h"
#include "molar/core/error.h"
#include "molar/io/json_config.h"
#include "molar/io/safetensors.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

// Full precision first. "{}" is diffusion_pytorch_model or model. Sharded variants have had both
// spellings of the index.
constexpr const char* kWeightFiles[] = {
    "{}.safetensors",
    "{}.safetensors.index.json",
    "{}.fp16.safetensors",
    "{}.fp16.safetensors.index.json",
    "{}.safetensors.index.fp16.json",
    "{}.bf16.safetensors",
    "{}.bf16.safetensors.index.json",
    "{}.safetensors.index.bf16.json",
};
constexpr std::string_view kPickleExtensions[] = {".bin", ".ckpt", ".pt", ".pth"};

/// A shard's path. Throws FileError where it would leave the index's folder.
fs::path shard_path(const fs::path& index_file, const std::string& shard) {
  const fs::path relative = fs::path(shard).lexically_normal();
  const bool outside = relative.empty() || relative.is_absolute() || *relative.begin() == "..";
  if (outside || shard.find('\0') != std::string::npos)
    throw FileError(
        fmt::format("{}: shard path '{}' leaves the folder; wanted a file beside the index",
                    index_file.string(), shard));
  return index_file.parent_path() / relative;
}

/// Tensor name -> shard, from the index's weight_map.
std::map<std::string, std::string> read_weight_map(const fs::path& index_file) {
  const Json index = read_json_file(index_file);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object() || map->empty())
    throw FileError(fmt::format("{}: no 'weight_map' object; wanted {{tensor: shard file}}",
                                index_file.string()));
  std::map<std::string, std::string> out;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string())
      throw FileError(fmt::format("{}: weight_map['{}'] is {}; wanted a file name",
                                  index_file.string(), tensor, shard.type_name()));
    out.emplace(tensor, shard.get<std::string>());
  }
  return out;
}

FolderWeights open_shards(const fs::path& index_file) {
  const auto weight_map = read_weight_map(index_file);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : weight_map) shards.insert(shard);
  for (const std::string& shard : shards)
    if (!fs::exists(shard_path(index_file, shard)))
      throw FileError(
          fmt::format("{}: shard '{}' is missing from the folder", index_file.string(), shard));
  FolderWeights out;
  for (const std::string& shard : shards) {
    const fs::path file = shard_path(index_file, shard);
    for (auto& [name, tensor] : SafetensorsFile::open(file).state_dict()) {
      const auto mapped = weight_map.find(name);
      if (mapped == weight_map.end() || mapped->second != shard)
        throw FileError(fmt::format("{}: tensor '{}' is in this shard, but {} puts it into {}",
                                    file.string(), name, index_file.filename().string(),
                                    mapped == weight_map.end() ? "none" : mapped->second));
      out.tensors.emplace(name, tensor);
    }
    out.files.push_back(file);
  }
  for (const auto& [name, shard] : weight_map)
    if (!out.tensors.contains(name))
      throw FileError(fmt::format("{}: tensor '{}' is not in shard '{}' as the index says",
                                  index_file.string(), name, shard));
  return out;
}

[[noreturn]] void refuse_without_weights(const fs::path& folder, const std::string& stem,
                                         const fs::path& model_folder) {
  std::vector<std::string> safetensors, pickles;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const std::string extension = entry.path().extension().string();
    if (extension == ".safetensors") safetensors.push_back(name);
    if (std::ranges::find(kPickleExtensions, extension) != std::end(kPickleExtensions))
      pickles.push_back(name);
  }
  std::ranges::sort(safetensors);
  std::ranges::sort(pickles);
  if (safetensors.empty() && !pickles.empty())
    throw FileError(fmt::format(
        "{}: only pickled weights ({}), which can run code when read; wanted {}.safetensors. "
        "Convert them once, where you trust them: {}",
        folder.string(), first_names(pickles), stem, folder_conversion_hint(model_folder)));
  throw FileError(
      fmt::format("{}: no weights; wanted {}.safetensors, its fp16 or bf16 variant, or its "
                  "index.json; found {}",
                  folder.string(), stem, safetensors.empty() ? "none" : first_names(safetensors)));
}

}  // namespace

FolderWeights open_folder_weights(const fs::path& folder, const std::string& stem,
                                  const fs::path& model_folder) {
  for (const char* const pattern : kWeightFiles) {
    const fs::path file = folder / fmt::format(fmt::runtime(pattern), stem);
    if (!fs::exists(file)) continue;
    if (file.extension() == ".json") return open_shards(file);
    refuse_other_formats(file);
    return {SafetensorsFile::open(file).state_dict(), {file}};
  }
  refuse_without_weights(folder, stem, model_folder);
}

}  // namespace molar
