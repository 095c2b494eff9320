#include "molar/evaluation/image_processor.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "molar/core/error.h"

namespace molar {
namespace {

constexpr int64_t kLargestSide = 1 << 14;

int64_t side_of(const JsonConfig& fields, const std::string& key) {
  const auto side = fields.get<int64_t>(key);
  if (side < 1 || side > kLargestSide)
    throw FileError(
        fmt::format("{}: '{}' is {}, wanted 1 to {}", fields.source(), key, side, kLargestSide));
  return side;
}

/// Pillow's numbers.
ResizeFilter filter_of(const JsonConfig& fields) {
  constexpr std::pair<int64_t, ResizeFilter> kFilters[] = {
      {1, ResizeFilter::kLanczos}, {2, ResizeFilter::kBilinear}, {3, ResizeFilter::kBicubic}};
  const auto number = fields.get_or("resample", int64_t{3});
  for (const auto& [known, filter] : kFilters)
    if (number == known) return filter;
  throw FileError(
      fmt::format("{}: 'resample' is {}; molar supports 1 (Lanczos), 2 (bilinear) and 3 "
                  "(bicubic)",
                  fields.source(), number));
}

/// values: [3, H, W]. Returns [3, side, side]: the longer side fills it, zeros the rest.
Tensor fit_into_square(const Tensor& values, int64_t side) {
  const double scale =
      static_cast<double>(side) / static_cast<double>(std::max(values.size(1), values.size(2)));
  const auto scaled = [&](int64_t length) {  // halves to even, as Python rounds
    return std::max<int64_t>(
        1, static_cast<int64_t>(std::nearbyint(static_cast<double>(length) * scale)));
  };
  const int64_t height = scaled(values.size(1)), width = scaled(values.size(2));
  const Tensor resized = at::_upsample_bicubic2d_aa(values.unsqueeze(0), {height, width},
                                                    /*align_corners=*/false)[0];
  const int64_t left = (side - width) / 2, top = (side - height) / 2;
  return at::constant_pad_nd(resized, {left, side - width - left, top, side - height - top}, 0);
}

}  // namespace

ImageProcessor ImageProcessor::from_json(const Json& json, const std::string& source) {
  const JsonConfig fields(json, source);
  // Before transformers 4.27 the type had another name.
  const bool is_vit =
      fields
          .get_or<std::string>("image_processor_type",
                               fields.get_or<std::string>("feature_extractor_type", ""))
          .starts_with("ViT");
  ImageProcessor processor;
  processor.filter_ = filter_of(fields);
  if (fields.get_or("do_resize", true)) {
    const Json size = json.value("size", Json(224));
    if (size.is_number_integer()) {  // transformers before 4.27: CLIP's shortest edge, ViT's square
      const int64_t side = side_of(JsonConfig(Json{{"size", size}}, source), "size");
      if (is_vit)
        processor.exact_size_ = {side, side};
      else
        processor.shortest_edge_px_ = side;
    } else {
      const JsonConfig sizes(size, source + ": size");
      if (sizes.has("shortest_edge"))
        processor.shortest_edge_px_ = side_of(sizes, "shortest_edge");
      else
        processor.exact_size_ = {side_of(sizes, "height"), side_of(sizes, "width")};
    }
  }
  if (fields.get_or("do_center_crop", !is_vit)) {
    const Json crop = json.value("crop_size", Json(224));
    if (crop.is_number_integer()) {
      const int64_t side = side_of(JsonConfig(Json{{"crop_size", crop}}, source), "crop_size");
      processor.crop_ = {side, side};
    } else {
      const JsonConfig sizes(crop, source + ": crop_size");
      processor.crop_ = {side_of(sizes, "height"), side_of(sizes, "width")};
    }
  }
  processor.rescale_factor_ =
      fields.get_or("do_rescale", true) ? fields.get_or("rescale_factor", 1.0 / 255) : 1.0;
  if (fields.get_or("do_normalize", true)) {
    processor.mean_ = fields.get<std::vector<double>>("image_mean");
    processor.std_ = fields.get<std::vector<double>>("image_std");
    if (processor.mean_.size() != 3 || processor.std_.size() != 3)
      throw FileError(
          fmt::format("{}: 'image_mean' and 'image_std' have {} and {} numbers, wanted 3", source,
                      processor.mean_.size(), processor.std_.size()));
  }
  return processor;
}

ImageProcessor ImageProcessor::hps_v2(int64_t side_px) {
  ImageProcessor processor;
  processor.padded_side_px_ = side_px;
  processor.rescale_factor_ = 1.0 / 255;
  processor.mean_ = {0.48145466, 0.4578275, 0.40821073};
  processor.std_ = {0.26862954, 0.26130258, 0.27577711};
  return processor;
}

Tensor ImageProcessor::process(const Tensor& pixels) const {
  check_shape(pixels, {-1, -1, 3}, "pixels");
  Tensor image = pixels;
  if (exact_size_) image = resize(image, exact_size_->height_px, exact_size_->width_px, filter_);
  if (shortest_edge_px_) {
    const int64_t height = image.size(0), width = image.size(1), edge = *shortest_edge_px_;
    const int64_t longer = edge * std::max(height, width) / std::min(height, width);
    image = height <= width ? resize(image, edge, longer, filter_)
                            : resize(image, longer, edge, filter_);
  }
  if (crop_) {
    const auto [height, width] = *crop_;
    if (image.size(0) < height || image.size(1) < width)
      throw Error(
          fmt::format("a picture of {} x {} pixels is smaller than the {} x {} that are cut "
                      "out of it",
                      image.size(1), image.size(0), width, height));
    image = image.narrow(0, (image.size(0) - height) / 2, height)
                .narrow(1, (image.size(1) - width) / 2, width);
  }
  Tensor values = image.permute({2, 0, 1}).to(at::kFloat) * rescale_factor_;
  if (padded_side_px_) values = fit_into_square(values, *padded_side_px_);
  if (!mean_.empty()) {
    const auto channels = [](const std::vector<double>& numbers) {
      return at::tensor(numbers, at::kFloat).view({3, 1, 1});
    };
    values = (values - channels(mean_)) / channels(std_);
  }
  return values.contiguous();
}

}  // namespace molar
