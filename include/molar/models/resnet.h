/// The convolutional parts of UNet and VAE: ResnetBlock2D, Downsample2D, Upsample2D.
#pragma once

#include <torch/torch.h>

#include "molar/models/layers.h"

namespace molar {

/// How the timestep reaches a block: added after conv1, or as scale and shift after norm2.
enum class TimeScaleShift { kDefault, kScaleShift };

struct ResnetBlock2DOptions {
  int64_t in_channels;
  int64_t out_channels;
  int64_t temb_channels = 0;  ///< 0: no timestep (VAE)
  int64_t groups = 32;
  double eps = 1e-5;
  TimeScaleShift time_scale_shift = TimeScaleShift::kDefault;
  double output_scale_factor = 1.0;
};

class ResnetBlock2DImpl final : public torch::nn::Module {
 public:
  explicit ResnetBlock2DImpl(const ResnetBlock2DOptions& options);
  /// x: [B, in_channels, H, W]; activated_temb: SiLU of the time embedding, [B, temb_channels], or
  /// undefined. Returns [B, out_channels, H, W].
  Tensor forward(const Tensor& x, const Tensor& activated_temb = {});

 private:
  ResnetBlock2DOptions options_;
  GroupNorm norm1_;
  Conv2d conv1_;
  Linear time_emb_proj_{nullptr};
  GroupNorm norm2_;
  Conv2d conv2_;
  Conv2d conv_shortcut_{nullptr};
};
TORCH_MODULE(ResnetBlock2D);

/// Strided convolution. padding 0 means, as in diffusers, one row and one column of zeros at the
/// end.
class Downsample2DImpl final : public torch::nn::Module {
 public:
  explicit Downsample2DImpl(int64_t channels, int64_t padding = 1);
  /// x: [B, C, H, W]. Returns [B, C, ceil(H / 2), ceil(W / 2)] with padding 1.
  Tensor forward(const Tensor& x);

 private:
  Conv2d conv_;
};
TORCH_MODULE(Downsample2D);

/// Nearest-neighbour enlargement, then a convolution.
class Upsample2DImpl final : public torch::nn::Module {
 public:
  explicit Upsample2DImpl(int64_t channels);
  /// x: [B, C, H, W]. Returns [B, C, height, width].
  Tensor forward(const Tensor& x, int64_t height, int64_t width);

 private:
  Conv2d conv_;
};
TORCH_MODULE(Upsample2D);

}  // namespace molar
