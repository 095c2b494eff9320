/// Encoder and decoder of AutoencoderKL.
#pragma once

#include <torch/torch.h>

#include "molar/models/autoencoder_kl.h"
#include "molar/models/resnet.h"

namespace molar {

/// Self-attention over pixels with one head, normalised before and added after.
class VaeAttentionImpl final : public torch::nn::Module {
 public:
  VaeAttentionImpl(int64_t channels, int64_t norm_num_groups);
  /// x: [B, C, H, W]. Returns the same shape; x keeps its values.
  Tensor forward(const Tensor& x);

 private:
  GroupNorm group_norm_;
  Linear to_q_, to_k_, to_v_;
  Linear to_out_{nullptr};  // "to_out.0"
};
TORCH_MODULE(VaeAttention);

/// UNetMidBlock2D: a resnet, attention if the config has it, a resnet.
class VaeMidBlockImpl final : public torch::nn::Module {
 public:
  explicit VaeMidBlockImpl(const AutoencoderKLConfig& config);
  /// x: [B, C, H, W]. Returns the same shape.
  Tensor forward(Tensor x);

 private:
  torch::nn::ModuleList resnets_, attentions_;
};
TORCH_MODULE(VaeMidBlock);

/// What follows a block's resnets.
enum class Resampling { kNone, kDown, kUp };

struct VaeBlockOptions {
  int64_t in_channels, out_channels;
  int64_t num_layers;
  int64_t norm_num_groups;
  Resampling resampling;
};

/// DownEncoderBlock2D or UpDecoderBlock2D: resnets, then half or double the size.
class VaeBlockImpl final : public torch::nn::Module {
 public:
  explicit VaeBlockImpl(const VaeBlockOptions& options);
  /// x: [B, in_channels, H, W]. Returns [B, out_channels, H', W'].
  Tensor forward(Tensor x);

 private:
  torch::nn::ModuleList resnets_;
  Downsample2D downsampler_{nullptr};
  Upsample2D upsampler_{nullptr};
};
TORCH_MODULE(VaeBlock);

class VaeEncoderImpl final : public torch::nn::Module {
 public:
  explicit VaeEncoderImpl(const AutoencoderKLConfig& config);
  /// image: [B, in_channels, H, W]. Returns [B, 2 * latent_channels, h, w].
  Tensor forward(const Tensor& image, const AutoencoderObserver& observe);

 private:
  Conv2d conv_in_;
  torch::nn::ModuleList down_blocks_;
  VaeMidBlock mid_block_;
  GroupNorm conv_norm_out_;
  Conv2d conv_out_;
};

class VaeDecoderImpl final : public torch::nn::Module {
 public:
  explicit VaeDecoderImpl(const AutoencoderKLConfig& config);
  /// latents: [B, latent_channels, h, w]. Returns [B, out_channels, H, W].
  Tensor forward(const Tensor& latents, const AutoencoderObserver& observe);

 private:
  Conv2d conv_in_;
  VaeMidBlock mid_block_;
  torch::nn::ModuleList up_blocks_;
  GroupNorm conv_norm_out_;
  Conv2d conv_out_;
};

}  // namespace molar
