/// UNet2DConditionModel of diffusers, for Stable Diffusion 1.x, 2.x and XL (Rombach et al. 2021,
/// arXiv:2112.10752; Podell et al. 2023, arXiv:2307.01952). Modules carry diffusers' names.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "molar/io/json_config.h"
#include "molar/models/embeddings.h"
#include "molar/models/layer_hook.h"
#include "molar/models/unet_2d_blocks.h"

namespace molar {

/// One resolution of the UNet: its down block and the up block on the same level.
struct UNetLevelConfig {
  int64_t channels;    ///< block_out_channels
  int64_t num_layers;  ///< layers_per_block; the up block has one resnet more
  int64_t heads;       ///< attention_head_dim, which in diffusers' configs means heads
  bool only_cross_attention;
  std::vector<int64_t> down_transformer_layers;  ///< empty: DownBlock2D
  std::vector<int64_t> up_transformer_layers;    ///< empty: UpBlock2D
};

enum class UNetMidBlockType { kNone, kResnet, kCrossAttention };

/// unet/config.json with every per-level value resolved.
struct UNet2DConditionConfig {
  int64_t sample_size =
      64;  ///< latent pixels of the size it was trained for; 64 where the file has none
  int64_t in_channels = 4, out_channels = 4;
  bool center_input_sample = false;  ///< the input is mapped from [0, 1] to [-1, 1]
  bool flip_sin_to_cos = true;
  double freq_shift = 0.0;
  int64_t conv_in_kernel = 3, conv_out_kernel = 3;
  std::vector<UNetLevelConfig> levels;  ///< finest first
  UNetMidBlockType mid_block_type = UNetMidBlockType::kCrossAttention;
  int64_t mid_transformer_layers = 1;
  double mid_block_scale_factor = 1.0;
  int64_t downsample_padding = 1;
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;
  int64_t cross_attention_dim = 1280;  ///< width of the text
  bool use_linear_projection = false;
  TimeScaleShift time_scale_shift = TimeScaleShift::kDefault;
  int64_t time_embedding_dim = 1280;
  std::optional<int64_t> time_cond_proj_dim;       ///< LCM: width of timestep_cond
  std::optional<int64_t> addition_time_embed_dim;  ///< SDXL: sinusoids per value of time_ids
  int64_t add_embedding_input_dim = 0;  ///< SDXL: width of text_embeds and all sinusoids together

  /// Reads every value that diffusers 0.2x to 0.42 writes. `source` ("unet/config.json") starts
  /// each message. Throws FileError that names a value which is not supported, malformed, or
  /// unknown.
  static UNet2DConditionConfig from_json(const Json& json, const std::string& source);
};

/// The map whose positions are the tokens that a layer of a transformer reads, for latents of the
/// size `latents`. `module`: its dotted name. nullopt: it reads text tokens, or is in no
/// transformer.
std::optional<MapSize> token_map_size(const UNet2DConditionConfig& config, std::string_view module,
                                      MapSize latents);

/// Conditioning of one UNet call.
struct UNetConditioning {
  Tensor encoder_hidden_states;  ///< [B, L, cross_attention_dim]
  Tensor text_embeds;            ///< SDXL: [B, P]; undefined otherwise
  Tensor time_ids;               ///< SDXL: [B, 6]; undefined otherwise
  Tensor timestep_cond;          ///< LCM: [B, time_cond_proj_dim]; undefined otherwise
};

/// Sees the result of each part of a call: "time_embedding", "conv_in", "down_blocks.0", ...,
/// "mid_block", "up_blocks.0", ..., "conv_out". Must not change it.
using UNetObserver = std::function<void(std::string_view part, const Tensor& result)>;

class UNet2DConditionModelImpl final : public torch::nn::Module {
 public:
  explicit UNet2DConditionModelImpl(const UNet2DConditionConfig& config);

  /// sample: [B, in_channels, H, W], any H and W; timesteps: [B] or [1], float32 or int64. All
  /// floating-point inputs in the weights' dtype, except timesteps and time_ids.
  /// Returns [B, out_channels, H, W]. Throws Error where an input is missing or of another shape.
  Tensor forward(const Tensor& sample, const Tensor& timesteps,
                 const UNetConditioning& conditioning, const UNetObserver& observe = {});

  /// For training: kRecomputed needs memory for one block's insides at a time and takes one more
  /// forward pass. The results are the same.
  void set_activations(Activations activations);

  const UNet2DConditionConfig& config() const { return config_; }

 private:
  void check_inputs(const Tensor& sample, const Tensor& timesteps,
                    const UNetConditioning& conditioning) const;
  Tensor embed_time(const Tensor& sample, const Tensor& timesteps,
                    const UNetConditioning& conditioning);
  void add_levels();

  UNet2DConditionConfig config_;
  Conv2d conv_in_;
  TimestepEmbedding time_embedding_;
  TimestepEmbedding add_embedding_{nullptr};
  torch::nn::ModuleList down_blocks_, up_blocks_;
  UNetMidBlock mid_block_{nullptr};
  GroupNorm conv_norm_out_;
  Conv2d conv_out_;
};
TORCH_MODULE(UNet2DConditionModel);

}  // namespace molar
