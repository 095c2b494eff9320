/// A folder of pictures to learn from, each with its caption.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "molar/core/tensor.h"
#include "molar/training/picture_training_options.h"

namespace molar {

struct TrainingPicture {
  std::filesystem::path path;
  std::string caption;
};

/// What a user calls a source of pictures, for messages.
struct PictureSourceNames {
  std::string folder;  ///< "--instance-images"
  std::string prompt;  ///< "--instance-prompt"
};
/// {"--instance-images", "--instance-prompt"}
PictureSourceNames option_names_of(const std::string& source);

/// Every .png, .jpg and .jpeg of the folder, by name. The caption is the text of the file of the
/// same name that ends in .txt, without white space at its ends, else the source's prompt. Warns of
/// files that are neither. Throws InputError: no folder, no picture in it, a caption that is not
/// UTF-8; ConfigError: a picture without caption where the source has no prompt.
std::vector<TrainingPicture> list_pictures(const PictureSource& source,
                                           const PictureSourceNames& names);

/// A picture as the VAE reads it, and what SDXL is told about it.
struct SquarePicture {
  Tensor pixels;  ///< [3, side, side] in [-1, 1]
  int64_t original_height_px, original_width_px;
  int64_t crop_top_px, crop_left_px;  ///< of the square, after the resize
};

/// The shorter side resized to `side_px` (Lanczos), then the middle of the longer one.
/// Throws InputError for a file that is no picture.
SquarePicture read_square_picture(const std::filesystem::path& path, int64_t side_px);

}  // namespace molar
