#include "molar/models/autoencoder_kl.h"

#include <fmt/format.h>

#include <algorithm>

#include "config_fields.h"
#include "molar/core/error.h"
#include "tiling.h"
#include "vae_blocks.h"

namespace molar {
namespace {

/// Every block must be of the one type that Stable Diffusion uses.
void check_block_types(const JsonConfig& fields, const char* key, const char* supported,
                       size_t num_blocks) {
  const auto types = fields.get_or(key, std::vector<std::string>{supported});
  for (const std::string& type : types)
    if (type != supported)
      throw FileError(fmt::format("{}: '{}' has '{}'; molar supports {}", fields.source(), key,
                                  type, supported));
  if (types.size() != num_blocks)
    throw FileError(fmt::format("{}: '{}' has {} blocks, 'block_out_channels' has {}",
                                fields.source(), key, types.size(), num_blocks));
}

void check_in_range(const std::string& source, const std::string& name, int64_t value,
                    int64_t largest) {
  if (value < 1 || value > largest)
    throw FileError(fmt::format("{}: '{}' is {}, wanted 1 to {}", source, name, value, largest));
}

void check_sizes(const AutoencoderKLConfig& config, const std::string& source) {
  constexpr int64_t kLargest = 1 << 16;
  check_in_range(source, "in_channels", config.in_channels, kLargest);
  check_in_range(source, "out_channels", config.out_channels, kLargest);
  check_in_range(source, "layers_per_block", config.layers_per_block, 64);
  check_in_range(source, "latent_channels", config.latent_channels, kLargest);
  check_in_range(source, "norm_num_groups", config.norm_num_groups, kLargest);
  check_in_range(source, "sample_size", config.sample_size, kLargest);
  check_in_range(source, "block_out_channels (blocks)",
                 static_cast<int64_t>(config.block_out_channels.size()), 16);
  for (const int64_t channels : config.block_out_channels) {
    check_in_range(source, "block_out_channels", channels, kLargest);
    if (channels % config.norm_num_groups != 0)
      throw FileError(
          fmt::format("{}: 'block_out_channels' {} is not a multiple of 'norm_num_groups' {}",
                      source, channels, config.norm_num_groups));
  }
  if (!(config.scaling_factor > 0))
    throw FileError(fmt::format("{}: 'scaling_factor' is {}, wanted a number above 0", source,
                                config.scaling_factor));
}

void check_latent_statistics(const AutoencoderKLConfig& config, const std::string& source) {
  const size_t num_means = config.latents_mean.size(), num_stds = config.latents_std.size();
  const auto wanted = static_cast<size_t>(config.latent_channels);
  if (num_means != num_stds || (num_means != 0 && num_means != wanted))
    throw FileError(fmt::format(
        "{}: 'latents_mean' has {} values and 'latents_std' {}; wanted {} each, or neither", source,
        num_means, num_stds, wanted));
  if (std::ranges::any_of(config.latents_std, [](double value) { return !(value > 0); }))
    throw FileError(fmt::format("{}: 'latents_std' must be above 0", source));
}

/// Throws Error unless x is a batch of maps with `channels` channels.
void check_input(const Tensor& x, int64_t channels, std::string_view what) {
  if (x.dim() != 4 || x.size(1) != channels || x.numel() == 0)
    throw Error(
        fmt::format("{} must be [B, {}, H, W], are {}", what, channels, shape_string(x.sizes())));
}

}  // namespace

AutoencoderKLConfig AutoencoderKLConfig::from_json(const Json& json, const std::string& source) {
  const JsonConfig fields(json, source);
  refuse_null(fields,
              {"act_fn", "block_out_channels", "down_block_types", "force_upcast", "in_channels",
               "latent_channels", "layers_per_block", "mid_block_add_attention", "norm_num_groups",
               "out_channels", "sample_size", "scaling_factor", "up_block_types",
               "use_post_quant_conv", "use_quant_conv"});
  AutoencoderKLConfig config;
  config.in_channels = fields.get_or("in_channels", config.in_channels);
  config.out_channels = fields.get_or("out_channels", config.out_channels);
  config.block_out_channels = fields.get_or("block_out_channels", config.block_out_channels);
  config.layers_per_block = fields.get_or("layers_per_block", config.layers_per_block);
  config.latent_channels = fields.get_or("latent_channels", config.latent_channels);
  config.norm_num_groups = fields.get_or("norm_num_groups", config.norm_num_groups);
  config.sample_size = fields.get_or("sample_size", config.sample_size);
  config.scaling_factor = fields.get_or("scaling_factor", config.scaling_factor);
  config.latents_mean = fields.get_or("latents_mean", config.latents_mean);
  config.latents_std = fields.get_or("latents_std", config.latents_std);
  config.force_upcast = fields.get_or("force_upcast", config.force_upcast);
  config.use_quant_conv = fields.get_or("use_quant_conv", config.use_quant_conv);
  config.use_post_quant_conv = fields.get_or("use_post_quant_conv", config.use_post_quant_conv);
  config.mid_block_add_attention =
      fields.get_or("mid_block_add_attention", config.mid_block_add_attention);
  fields.require_one_of("act_fn", {"silu", "swish"});  // two names of one function
  fields.require_one_of("shift_factor", {0.0});        // Stable Diffusion's pipelines have none
  check_block_types(fields, "down_block_types", "DownEncoderBlock2D",
                    config.block_out_channels.size());
  check_block_types(fields, "up_block_types", "UpDecoderBlock2D", config.block_out_channels.size());
  fields.refuse_unread_keys();
  check_sizes(config, source);
  check_latent_statistics(config, source);
  return config;
}

int64_t AutoencoderKLConfig::scale_factor() const {
  return int64_t{1} << (block_out_channels.size() - 1);
}

Tensor LatentDistribution::sample(const Tensor& noise) const {
  if (noise.sizes() != mean.sizes())
    throw Error(fmt::format("the noise of a latent sample must be {}, is {}",
                            shape_string(mean.sizes()), shape_string(noise.sizes())));
  return mean + (0.5 * logvar).exp() * noise.to(mean.options());
}

AutoencoderKLImpl::AutoencoderKLImpl(const AutoencoderKLConfig& config)
    : config_(config),
      encoder_(register_module("encoder", std::make_shared<VaeEncoderImpl>(config))),
      decoder_(register_module("decoder", std::make_shared<VaeDecoderImpl>(config))) {
  const auto conv1x1 = [](int64_t channels) {
    return Conv2d(
        Conv2dOptions{.in_channels = channels, .out_channels = channels, .kernel_size = 1});
  };
  if (config.use_quant_conv)
    quant_conv_ = register_module("quant_conv", conv1x1(2 * config.latent_channels));
  if (config.use_post_quant_conv)
    post_quant_conv_ = register_module("post_quant_conv", conv1x1(config.latent_channels));
}

void AutoencoderKLImpl::set_tiling(bool tiling) {
  const int64_t smallest = 2 * config_.scale_factor();
  if (tiling && config_.sample_size < smallest)
    throw FileError(fmt::format("the VAE's config says 'sample_size' {}, tiles need at least {}",
                                config_.sample_size, smallest));
  tiling_ = tiling;
}

LatentDistribution AutoencoderKLImpl::encode(const Tensor& image,
                                             const AutoencoderObserver& observe) {
  check_input(image, config_.in_channels, "the pixels to encode");
  const bool large = image.size(2) > config_.sample_size || image.size(3) > config_.sample_size;
  Tensor moments;  // [B, 2 * latent_channels, h, w]
  if (tiling_ && large) {
    const auto sizes = TileSizes::with_quarter_overlap(
        config_.sample_size, config_.sample_size / config_.scale_factor());
    moments =
        map_tiles(image, sizes, [&](const Tensor& tile) { return encode_moments(tile, observe); });
  } else {
    moments = encode_moments(image, observe);
  }
  if (observe) observe("moments", moments);
  const auto halves = moments.chunk(2, /*dim=*/1);
  return {halves[0], halves[1].clamp(-30.0, 20.0)};
}

Tensor AutoencoderKLImpl::encode_moments(const Tensor& image, const AutoencoderObserver& observe) {
  const Tensor moments = encoder_->forward(image, observe);
  return quant_conv_ ? quant_conv_(moments) : moments;
}

Tensor AutoencoderKLImpl::decode(const Tensor& latents, const AutoencoderObserver& observe) {
  check_input(latents, config_.latent_channels, "the latents to decode");
  const int64_t tile = config_.sample_size / config_.scale_factor();
  if (!tiling_ || (latents.size(2) <= tile && latents.size(3) <= tile))
    return decode_whole(latents, observe);
  return map_tiles(latents, TileSizes::with_quarter_overlap(tile, config_.sample_size),
                   [&](const Tensor& part) { return decode_whole(part, observe); });
}

Tensor AutoencoderKLImpl::decode_whole(const Tensor& latents, const AutoencoderObserver& observe) {
  return decoder_->forward(post_quant_conv_ ? post_quant_conv_(latents) : latents, observe);
}

Tensor AutoencoderKLImpl::per_channel(const std::vector<double>& values, const Tensor& like) const {
  return torch::tensor(values, like.options().requires_grad(false)).view({1, -1, 1, 1});
}

Tensor AutoencoderKLImpl::to_scaled_latents(const Tensor& latents) const {
  if (config_.latents_mean.empty()) return latents * config_.scaling_factor;
  return (latents - per_channel(config_.latents_mean, latents)) * config_.scaling_factor /
         per_channel(config_.latents_std, latents);
}

Tensor AutoencoderKLImpl::from_scaled_latents(const Tensor& scaled) const {
  if (config_.latents_mean.empty()) return scaled / config_.scaling_factor;
  return scaled * per_channel(config_.latents_std, scaled) / config_.scaling_factor +
         per_channel(config_.latents_mean, scaled);
}

}  // namespace molar
