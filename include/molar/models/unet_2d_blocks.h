/// The UNet's levels. One class per direction; attention is there or not:
///   UNetDownBlock   DownBlock2D, CrossAttnDownBlock2D
///   UNetMidBlock    UNetMidBlock2D, UNetMidBlock2DCrossAttn
///   UNetUpBlock     UpBlock2D, CrossAttnUpBlock2D
#pragma once

#include <torch/torch.h>

#include <optional>
#include <vector>

#include "molar/models/resnet.h"
#include "molar/models/transformer_2d.h"

namespace molar {

/// What is kept of a forward pass for the backward pass.
enum class Activations {
  kKept,        ///< all
  kRecomputed,  ///< those between the parts of a block; see gradient_checkpoint.h
};

/// What every block of a level shares.
struct UNetBlockOptions {
  int64_t temb_channels;
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;
  TimeScaleShift time_scale_shift = TimeScaleShift::kDefault;
  double output_scale_factor = 1.0;  ///< of each resnet; diffusers sets it in the mid block only
  int64_t heads = 8;
  int64_t cross_attention_dim = 768;
  bool use_linear_projection = false;
  bool only_cross_attention = false;
};

/// `transformer_layers`: the depth of the transformer after each resnet; empty: a block without
/// attention.
struct UNetDownBlockOptions {
  int64_t in_channels, out_channels;
  int64_t num_layers;  ///< resnets
  std::vector<int64_t> transformer_layers;
  bool add_downsample;
  int64_t downsample_padding = 1;
};

class UNetDownBlockImpl final : public torch::nn::Module {
 public:
  UNetDownBlockImpl(const UNetDownBlockOptions& options, const UNetBlockOptions& shared);
  /// x: [B, in_channels, H, W]; activated_temb: [B, temb_channels]; encoder_hidden_states: [B, S,
  /// D]. Returns what the up path will need, in order: each resnet's (and transformer's) result [B,
  /// out_channels, H, W], then the halved one, if any. The last is the block's result.
  std::vector<Tensor> forward(Tensor x, const Tensor& activated_temb,
                              const Tensor& encoder_hidden_states);
  void set_activations(Activations activations) { activations_ = activations; }

 private:
  Activations activations_ = Activations::kKept;
  torch::nn::ModuleList resnets_, attentions_;
  Downsample2D downsampler_{nullptr};
};
TORCH_MODULE(UNetDownBlock);

class UNetMidBlockImpl final : public torch::nn::Module {
 public:
  /// transformer_layers: the depth of the one transformer, or nullopt for a single resnet.
  UNetMidBlockImpl(int64_t channels, std::optional<int64_t> transformer_layers,
                   const UNetBlockOptions& shared);
  /// x: [B, channels, H, W]. Returns the same shape.
  Tensor forward(Tensor x, const Tensor& activated_temb, const Tensor& encoder_hidden_states);
  void set_activations(Activations activations) { activations_ = activations; }

 private:
  Activations activations_ = Activations::kKept;
  torch::nn::ModuleList resnets_, attentions_;
};
TORCH_MODULE(UNetMidBlock);

struct UNetUpBlockOptions {
  int64_t in_channels;  ///< of the last skip connection: the next level's width
  int64_t out_channels;
  int64_t prev_out_channels;  ///< of x: the width of the level below
  int64_t num_layers;         ///< resnets, each of which takes one skip connection
  std::vector<int64_t> transformer_layers;
  bool add_upsample;
};

/// Height and width of a feature map.
struct MapSize {
  int64_t height, width;
};

class UNetUpBlockImpl final : public torch::nn::Module {
 public:
  UNetUpBlockImpl(const UNetUpBlockOptions& options, const UNetBlockOptions& shared);
  size_t num_layers() const { return resnets_->size(); }
  /// x: [B, prev_out_channels, H, W]; skips: num_layers() maps [B, ., H, W], used from the back and
  /// freed one by one. Returns [B, out_channels, ...] in `size` where the block upsamples (nullopt:
  /// doubled), else [B, out_channels, H, W].
  Tensor forward(Tensor x, std::vector<Tensor> skips, const Tensor& activated_temb,
                 const Tensor& encoder_hidden_states, std::optional<MapSize> size);
  void set_activations(Activations activations) { activations_ = activations; }

 private:
  Activations activations_ = Activations::kKept;
  torch::nn::ModuleList resnets_, attentions_;
  Upsample2D upsampler_{nullptr};
};
TORCH_MODULE(UNetUpBlock);

}  // namespace molar
