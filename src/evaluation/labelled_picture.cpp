#include "molar/evaluation/labelled_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "molar/core/error.h"
#include "molar/io/image.h"
#include "molar/io/json_config.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr std::pair<std::string_view, std::string LabelledPicture::*> kLabels[] = {
    {"method", &LabelledPicture::method},
    {"subject", &LabelledPicture::subject},
    {"style", &LabelledPicture::style}};
constexpr std::string_view kNoLabel = "-";

/// Labels as the record has them. Returns false where there is none.
bool label_by_record(LabelledPicture& picture) {
  try {
    const std::optional<Json> record = read_record(picture.path);
    if (!record) return false;
    const Json& request = record->at("request");
    picture.prompt = request.at("prompt").get<std::string>();
    if (const auto seed = request.find("seed"); seed != request.end() && seed->is_number_integer())
      picture.seed = seed->get<int64_t>();
    picture.method = record->at("merge").get<std::string>();
    for (const Json& lora : record->at("loras")) {
      const std::string name = fs::path(lora.at("file").get<std::string>()).stem().string();
      for (const auto& [label, field] : kLabels)
        if (lora.at("role").get<std::string>() == label) picture.*field = name;
    }
    return true;
  } catch (const Json::exception& error) {
    throw InputError(
        fmt::format("the molar record of '{}' lacks the prompt, the merge or the LoRAs",
                    picture.path.string()));
  } catch (const FileError& error) {
    throw InputError(error.what());
  }
}

std::vector<fs::path> pictures_below(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw InputError(fmt::format("'{}': wanted a folder of pictures, found {}", folder.string(),
                                 fs::exists(folder, error) ? "a file" : "nothing"));
  std::vector<fs::path> pictures;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && is_picture_name(entry.path())) pictures.push_back(entry.path());
  if (pictures.empty())
    throw InputError(fmt::format("'{}' holds no pictures (png, jpg, jpeg)", folder.string()));
  std::ranges::sort(pictures);
  return pictures;
}

}  // namespace

std::optional<Json> read_record(const fs::path& picture) {
  if (picture.extension() != ".png") return std::nullopt;
  for (const auto& [keyword, text] : read_png_text(picture))
    if (keyword == "molar")
      return parse_json(text, fmt::format("the molar record of '{}'", picture.string()));
  return std::nullopt;
}

PictureLayout PictureLayout::parse(std::string_view text) {
  PictureLayout layout;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find('/', start), text.size());
    const std::string level(text.substr(start, end - start));
    const bool known = level == kNoLabel || std::ranges::any_of(kLabels, [&](const auto& label) {
                         return label.first == level;
                       });
    if (!known)
      throw ConfigError(
          fmt::format("--layout {}: '{}' is no label; wanted method, subject, style "
                      "or - for each level of folders, as in method/subject/style",
                      text, level));
    if (level != kNoLabel && std::ranges::find(layout.levels_, level) != layout.levels_.end())
      throw ConfigError(fmt::format("--layout {}: '{}' stands twice", text, level));
    layout.levels_.push_back(level);
    start = end + 1;
  }
  return layout;
}

bool PictureLayout::names(std::string_view label) const {
  return std::ranges::find(levels_, label) != levels_.end();
}

void PictureLayout::label(const fs::path& inside, LabelledPicture& picture) const {
  const fs::path folders = inside.parent_path();
  const auto depth = std::distance(folders.begin(), folders.end());
  if (depth != std::ssize(levels_))
    throw InputError(fmt::format("'{}' lies {} folders deep; --layout says {}",
                                 picture.path.string(), depth, levels_.size()));
  auto level = levels_.begin();
  for (const fs::path& folder : folders) {
    for (const auto& [label, field] : kLabels)
      if (*level == label) picture.*field = folder.string();
    ++level;
  }
}

std::vector<LabelledPicture> find_pictures(const std::vector<fs::path>& run_folders,
                                           const std::optional<PictureLayout>& layout,
                                           Records records) {
  std::vector<LabelledPicture> pictures;
  for (const fs::path& folder : run_folders)
    for (const fs::path& path : pictures_below(folder)) {
      LabelledPicture picture{.path = path};
      if (!label_by_record(picture) && !layout && records == Records::kNeeded)
        throw InputError(
            fmt::format("'{}' carries no molar record; wanted --layout to say what "
                        "the folders mean",
                        path.string()));
      if (layout) layout->label(path.lexically_relative(folder), picture);
      pictures.push_back(std::move(picture));
    }
  return pictures;
}

}  // namespace molar
