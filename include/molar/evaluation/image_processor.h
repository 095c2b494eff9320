/// Pictures as a metric model wants them: transformers' CLIPImageProcessor, ViTImageProcessor and
/// BitImageProcessor (DINOv2) over Pillow.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "molar/core/tensor.h"
#include "molar/io/image.h"
#include "molar/io/json_config.h"

namespace molar {

class ImageProcessor {
 public:
  /// preprocessor_config.json. `source` names it in messages. Throws FileError for a setting that
  /// is not supported, malformed or unknown.
  static ImageProcessor from_json(const Json& json, const std::string& source);

  /// HPS v2's own (Wu et al. 2023, arXiv:2306.09341; its transform.py): the longer side becomes
  /// `side_px`, bicubic with antialiasing in float32, black fills the square; CLIP's mean and
  /// deviation.
  static ImageProcessor hps_v2(int64_t side_px);

  /// pixels: uint8 [H, W, 3]. Resized, cut out of the middle, scaled and normalised: float32
  /// [3, h, w].
  Tensor process(const Tensor& pixels) const;

 private:
  struct Size {
    int64_t height_px, width_px;
  };
  std::optional<Size> exact_size_;           // else:
  std::optional<int64_t> shortest_edge_px_;  // else no resize
  std::optional<int64_t> padded_side_px_;
  ResizeFilter filter_ = ResizeFilter::kBicubic;
  std::optional<Size> crop_;
  double rescale_factor_ = 1.0 / 255;
  std::vector<double> mean_, std_;  // of the channels; empty: no normalisation
};

}  // namespace molar
