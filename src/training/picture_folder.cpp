#include "molar/training/picture_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "molar/core/error.h"
#include "molar/core/text.h"
#include "molar/io/file.h"
#include "molar/io/image.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr const char* kCaptionExtension = ".txt";
constexpr uint64_t kMaxCaptionBytes = 1 << 16;

std::vector<fs::path> sorted_files(const fs::path& folder, const PictureSourceNames& names) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw InputError(fmt::format("{} '{}': wanted a folder of pictures, found {}", names.folder,
                                 folder.string(),
                                 fs::exists(folder, error) ? "a file" : "nothing"));
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

std::string trimmed(std::string text) {
  constexpr const char* kSpace = " \t\r\n";
  text.erase(text.find_last_not_of(kSpace) + 1);
  text.erase(0, text.find_first_not_of(kSpace));
  return text;
}

std::string caption_of(const fs::path& picture, const PictureSource& source,
                       const PictureSourceNames& names) {
  const fs::path file = fs::path(picture).replace_extension(kCaptionExtension);
  if (!fs::exists(file)) {
    if (source.prompt) return *source.prompt;
    throw ConfigError(fmt::format("no {}, and '{}' has no '{}' beside it", names.prompt,
                                  picture.string(), file.filename().string()));
  }
  const std::string text = trimmed(read_file(file, kMaxCaptionBytes));
  if (valid_utf8(text) != text)
    throw InputError(fmt::format("the caption '{}' is not UTF-8 text", file.string()));
  return text;
}

/// A picture without its caption, or neither of the two.
void warn_of_leftovers(const std::vector<fs::path>& files,
                       const std::vector<TrainingPicture>& pictures) {
  std::vector<std::string> leftovers;
  for (const fs::path& file : files) {
    const bool used = std::ranges::any_of(pictures, [&](const TrainingPicture& picture) {
      return file == picture.path ||
             file == fs::path(picture.path).replace_extension(kCaptionExtension);
    });
    if (!used) leftovers.push_back(fmt::format("'{}'", file.filename().string()));
  }
  if (leftovers.empty()) return;
  const size_t num_shown = std::min<size_t>(leftovers.size(), 3);
  spdlog::warn(
      "'{}': {} of {} files are neither pictures (png, jpg, jpeg) nor a picture's caption: {}{}",
      files.front().parent_path().string(), leftovers.size(), files.size(),
      fmt::join(leftovers.begin(), leftovers.begin() + static_cast<std::ptrdiff_t>(num_shown),
                ", "),
      num_shown < leftovers.size() ? ", ..." : "");
}

}  // namespace

PictureSourceNames option_names_of(const std::string& source) {
  return {fmt::format("--{}-images", source), fmt::format("--{}-prompt", source)};
}

std::vector<TrainingPicture> list_pictures(const PictureSource& source,
                                           const PictureSourceNames& names) {
  const std::vector<fs::path> files = sorted_files(source.folder, names);
  std::vector<TrainingPicture> pictures;
  for (const fs::path& file : files)
    if (is_picture_name(file)) pictures.push_back({file, caption_of(file, source, names)});
  if (pictures.empty())
    throw InputError(fmt::format("{} '{}': no picture in it; wanted .png, .jpg or .jpeg",
                                 names.folder, source.folder.string()));
  warn_of_leftovers(files, pictures);
  return pictures;
}

SquarePicture read_square_picture(const fs::path& path, int64_t side_px) {
  const Tensor pixels = read_image(path);  // [H, W, 3]
  const int64_t height = pixels.size(0), width = pixels.size(1);
  const double factor = static_cast<double>(side_px) / static_cast<double>(std::min(height, width));
  const auto scaled = [&](int64_t size_px) {
    return std::max<int64_t>(side_px, std::llround(static_cast<double>(size_px) * factor));
  };
  const Tensor resized = resize(pixels, scaled(height), scaled(width));
  const int64_t top = (resized.size(0) - side_px) / 2, left = (resized.size(1) - side_px) / 2;
  const Tensor square = resized.narrow(0, top, side_px).narrow(1, left, side_px);
  return {.pixels = (square.permute({2, 0, 1}).to(torch::kFloat32) / 127.5 - 1.0).contiguous(),
          .original_height_px = height,
          .original_width_px = width,
          .crop_top_px = top,
          .crop_left_px = left};
}

}  // namespace molar
