#include "resources.h"

#include <vector>

#include "molar/core/error.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

std::vector<fs::path> model_folders() {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  if (error) return {};
  return {folder.parent_path() / "models", folder.parent_path() / "share/molar/models"};
}

}  // namespace

std::optional<fs::path> bundled_model() {
  for (const fs::path& folder : model_folders())
    if (fs::exists(folder / "toyland/model_index.json")) return folder / "toyland";
  return std::nullopt;
}

fs::path require_bundled_model() {
  if (const auto bundled = bundled_model()) return *bundled;
  throw ConfigError(
      "no model; wanted -m PATH or MOLAR_MODEL (none is bundled: models/toyland is not beside the "
      "program's folder)");
}

fs::path clip_vocabulary() {
  for (const fs::path& folder : model_folders())
    if (const fs::path file = folder / "clip/bpe_simple_vocab_16e6.txt.gz"; fs::exists(file))
      return file;
  return {};
}

}  // namespace molar::cli
