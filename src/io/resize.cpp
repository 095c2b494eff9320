#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "molar/core/error.h"
#include "molar/io/image.h"

namespace molar {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;  // 8 for the pixel, 2 for sums past one

double bilinear(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double bicubic(double x) {  // Keys 1981, doi:10.1109/TASSP.1981.1163711
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1) return ((kA + 2) * x - (kA + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * kA : 0.0;
}

double lanczos(double x) {
  constexpr double kLobes = 3.0;
  if (x < -kLobes || x >= kLobes) return 0.0;
  const auto sinc = [](double v) {
    return v == 0.0 ? 1.0 : std::sin(v * std::numbers::pi) / (v * std::numbers::pi);
  };
  return sinc(x) * sinc(x / kLobes);
}

struct Kernel {
  double support;  ///< 0 beyond it
  double (*weight)(double x);
};

Kernel kernel_of(ResizeFilter filter) {
  switch (filter) {
    case ResizeFilter::kBilinear:
      return {1.0, bilinear};
    case ResizeFilter::kBicubic:
      return {2.0, bicubic};
    case ResizeFilter::kLanczos:
      break;
  }
  return {3.0, lanczos};
}

/// One output pixel: weights in fixed point for the input pixels from `first`.
struct Window {
  int64_t first;
  std::vector<int32_t> weights;
};

std::vector<Window> windows(int64_t in_size, int64_t out_size, const Kernel& kernel) {
  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
  const double stretch = std::max(scale, 1.0);
  const double support = kernel.support * stretch;
  std::vector<Window> result;
  for (int64_t i = 0; i < out_size; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t last = std::min(in_size, static_cast<int64_t>(center + support + 0.5));
    std::vector<double> weights;
    double sum = 0.0;
    for (int64_t x = first; x < last; ++x) {
      weights.push_back(kernel.weight((static_cast<double>(x) - center + 0.5) * (1.0 / stretch)));
      sum += weights.back();
    }
    Window window{first, {}};
    for (double weight : weights) {
      if (sum != 0.0) weight /= sum;
      const double fixed = weight * (1 << kPrecisionBits);
      window.weights.push_back(static_cast<int32_t>(fixed + (weight < 0 ? -0.5 : 0.5)));
    }
    result.push_back(std::move(window));
  }
  return result;
}

/// Resizes axis 1 of uint8 [outer, in, inner]; rounds to 8 bits, as Pillow does between its two
/// passes.
Tensor resize_middle_axis(const Tensor& pixels, int64_t out_size, const Kernel& kernel) {
  const int64_t outer = pixels.size(0), in_size = pixels.size(1), inner = pixels.size(2);
  const Tensor resized = at::empty({outer, out_size, inner}, at::kByte);
  const std::vector<Window> all = windows(in_size, out_size, kernel);
  const auto* const in = pixels.const_data_ptr<uint8_t>();
  auto* out = resized.mutable_data_ptr<uint8_t>();
  std::vector<int32_t> sums(static_cast<size_t>(inner));
  for (int64_t o = 0; o < outer; ++o) {
    for (const Window& window : all) {
      std::fill(sums.begin(), sums.end(), 1 << (kPrecisionBits - 1));
      const auto* row = in + (o * in_size + window.first) * inner;
      for (const int32_t weight : window.weights) {
        for (size_t c = 0; c < sums.size(); ++c) sums[c] += *row++ * weight;
      }
      for (const int32_t sum : sums)
        *out++ = static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
    }
  }
  return resized;
}

}  // namespace

Tensor resize(const Tensor& pixels, int64_t height_px, int64_t width_px, ResizeFilter filter) {
  if (pixels.scalar_type() != at::kByte || (pixels.dim() != 2 && pixels.dim() != 3) ||
      pixels.numel() == 0)
    throw Error(fmt::format("resize: wanted uint8 [H, W] or [H, W, C], found {} {}",
                            dtype_name(pixels.scalar_type()), shape_string(pixels.sizes())));
  if (height_px < 1 || width_px < 1)
    throw Error(fmt::format("resize: cannot make {} x {} pixels", width_px, height_px));
  const Kernel kernel = kernel_of(filter);
  const int64_t in_height = pixels.size(0), in_width = pixels.size(1);
  const int64_t channels = pixels.dim() == 3 ? pixels.size(2) : 1;
  Tensor result = pixels.contiguous().reshape({in_height, in_width, channels});
  const auto resize_width = [&] {
    if (width_px != result.size(1)) result = resize_middle_axis(result, width_px, kernel);
  };
  const auto resize_height = [&] {
    const int64_t width = result.size(1);
    if (height_px != result.size(0))
      result = resize_middle_axis(result.reshape({1, result.size(0), width * channels}), height_px,
                                  kernel)
                   .reshape({height_px, width, channels});
  };
  // The order shows in the last bit. Pillow since 13 (measured on 13.0.0; before: always the width
  // first).
  if (height_px < in_height && in_height - height_px > 2 * (in_width - width_px)) {
    resize_height();
    resize_width();
  } else {
    resize_width();
    resize_height();
  }
  return pixels.dim() == 3 ? result : result.squeeze(2);
}

}  // namespace molar
