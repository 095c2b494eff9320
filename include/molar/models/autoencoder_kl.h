/// AutoencoderKL of diffusers: pixels <-> latents (Rombach et al. 2021, arXiv:2112.10752,
/// section 3.1).
#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "molar/io/json_config.h"
#include "molar/models/layers.h"

namespace molar {

/// vae/config.json. Defaults are diffusers'.
struct AutoencoderKLConfig {
  int64_t in_channels = 3, out_channels = 3;
  std::vector<int64_t> block_out_channels = {
      64};                       ///< finest first; each but the last halves the picture
  int64_t layers_per_block = 1;  ///< of the encoder; the decoder has one more
  int64_t latent_channels = 4;
  int64_t norm_num_groups = 32;
  int64_t sample_size = 32;                       ///< pixels; the side of a tile
  double scaling_factor = 0.18215;                ///< brings latents to unit variance
  std::vector<double> latents_mean, latents_std;  ///< per channel, both or neither; empty: 0 and 1
  bool force_upcast = true;  ///< float16 overflows; the SDXL pipeline then computes in float32
  bool use_quant_conv = true, use_post_quant_conv = true;
  bool mid_block_add_attention = true;

  /// `source` ("vae/config.json") starts each message. Throws FileError that names a value which is
  /// not supported, malformed, or unknown.
  static AutoencoderKLConfig from_json(const Json& json, const std::string& source);
  /// Pixels per latent, in each direction.
  int64_t scale_factor() const;
};

/// What the encoder knows of the latents: independent normal distributions. Both [B, C, h, w].
struct LatentDistribution {
  Tensor mean;
  Tensor logvar;  ///< in [-30, 20]

  /// noise: standard normal, in the shape of `mean`; any device and type.
  Tensor sample(const Tensor& noise) const;
  Tensor mode() const { return mean; }
};

/// Sees the result of each part of a call: "encoder.conv_in", "encoder.down_blocks.0", ...,
/// "encoder.mid_block", "encoder.conv_out", "moments"; "decoder.conv_in", "decoder.mid_block",
/// "decoder.up_blocks.0", ..., "decoder.conv_out". Must not change it, and must copy what it keeps.
using AutoencoderObserver = std::function<void(std::string_view part, const Tensor& result)>;

class VaeEncoderImpl;
class VaeDecoderImpl;

class AutoencoderKLImpl final : public torch::nn::Module {
 public:
  explicit AutoencoderKLImpl(const AutoencoderKLConfig& config);

  /// image: [B, in_channels, H, W] in [-1, 1], in the weights' type. Returns distributions of
  /// unscaled latents, [B, latent_channels, H / scale_factor, W / scale_factor]. Throws Error for
  /// another shape.
  LatentDistribution encode(const Tensor& image, const AutoencoderObserver& observe = {});

  /// latents: unscaled, [B, latent_channels, h, w], in the weights' type. Returns pixels,
  /// [B, out_channels, h * scale_factor, w * scale_factor], about [-1, 1]. Throws Error for another
  /// shape.
  Tensor decode(const Tensor& latents, const AutoencoderObserver& observe = {});

  /// Pictures larger than sample_size are then worked on in tiles that overlap by a quarter and are
  /// blended, in the memory of a few tiles. The result differs slightly from that without tiles,
  /// and is what diffusers' enable_tiling gives. Throws FileError where sample_size is too small
  /// for a tile.
  void set_tiling(bool tiling);

  /// Between the encoder's latents and those of about unit variance that the UNet reads.
  Tensor to_scaled_latents(const Tensor& latents) const;
  Tensor from_scaled_latents(const Tensor& scaled) const;

  const AutoencoderKLConfig& config() const { return config_; }

 private:
  Tensor encode_moments(const Tensor& image, const AutoencoderObserver& observe);
  Tensor decode_whole(const Tensor& latents, const AutoencoderObserver& observe);
  Tensor per_channel(const std::vector<double>& values, const Tensor& like) const;

  AutoencoderKLConfig config_;
  bool tiling_ = false;
  std::shared_ptr<VaeEncoderImpl> encoder_;
  std::shared_ptr<VaeDecoderImpl> decoder_;
  Conv2d quant_conv_{nullptr}, post_quant_conv_{nullptr};
};
TORCH_MODULE(AutoencoderKL);

}  // namespace molar
