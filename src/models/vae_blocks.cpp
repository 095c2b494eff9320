#include "vae_blocks.h"

#include <fmt/format.h>

#include "molar/models/attention.h"

namespace molar {
namespace {

constexpr double kNormEps = 1e-6;  // of every norm in the autoencoder

Conv2d conv3x3(int64_t in_channels, int64_t out_channels) {
  return Conv2d(
      Conv2dOptions{.in_channels = in_channels, .out_channels = out_channels, .padding = 1});
}

ResnetBlock2D resnet(int64_t in_channels, int64_t out_channels, int64_t norm_num_groups) {
  return ResnetBlock2D(ResnetBlock2DOptions{.in_channels = in_channels,
                                            .out_channels = out_channels,
                                            .groups = norm_num_groups,
                                            .eps = kNormEps});
}

/// A list of one under `name`, as diffusers keeps its samplers: "downsamplers.0".
template <typename Holder>
Holder register_in_list(torch::nn::Module& parent, const char* name, const Holder& module) {
  return parent.register_module(name, std::make_shared<torch::nn::Module>("ModuleList"))
      ->register_module("0", module);
}

void tell(const AutoencoderObserver& observe, std::string_view part, const Tensor& result) {
  if (observe) observe(part, result);
}

}  // namespace

VaeAttentionImpl::VaeAttentionImpl(int64_t channels, int64_t norm_num_groups)
    : group_norm_(register_module("group_norm", GroupNorm(norm_num_groups, channels, kNormEps))),
      to_q_(register_module("to_q", Linear(channels, channels))),
      to_k_(register_module("to_k", Linear(channels, channels))),
      to_v_(register_module("to_v", Linear(channels, channels))) {
  to_out_ = register_in_list(*this, "to_out", Linear(channels, channels));
}

Tensor VaeAttentionImpl::forward(const Tensor& x) {
  const Tensor tokens = group_norm_(x).flatten(2).transpose(1, 2);  // [B, H * W, C]
  const Tensor attended =
      to_out_(multi_head_attention(to_q_(tokens), to_k_(tokens), to_v_(tokens), /*heads=*/1));
  // [B, H * W, C] seen as [B, C, H, W] is channels-last already.
  return add_reusing(attended.transpose(1, 2).view(x.sizes()), x);
}

VaeMidBlockImpl::VaeMidBlockImpl(const AutoencoderKLConfig& config)
    : resnets_(register_module("resnets", torch::nn::ModuleList())) {
  const int64_t channels = config.block_out_channels.back();
  for (int i = 0; i < 2; ++i)
    resnets_->push_back(resnet(channels, channels, config.norm_num_groups));
  if (!config.mid_block_add_attention) return;
  attentions_ = register_module("attentions", torch::nn::ModuleList());
  attentions_->push_back(VaeAttention(channels, config.norm_num_groups));
}

Tensor VaeMidBlockImpl::forward(Tensor x) {
  x = resnets_->ptr<ResnetBlock2DImpl>(0)->forward(x);
  if (!attentions_->is_empty()) x = attentions_->ptr<VaeAttentionImpl>(0)->forward(x);
  return resnets_->ptr<ResnetBlock2DImpl>(1)->forward(x);
}

VaeBlockImpl::VaeBlockImpl(const VaeBlockOptions& options)
    : resnets_(register_module("resnets", torch::nn::ModuleList())) {
  for (int64_t i = 0; i < options.num_layers; ++i)
    resnets_->push_back(resnet(i == 0 ? options.in_channels : options.out_channels,
                               options.out_channels, options.norm_num_groups));
  if (options.resampling == Resampling::kDown)
    downsampler_ =
        register_in_list(*this, "downsamplers", Downsample2D(options.out_channels, /*padding=*/0));
  if (options.resampling == Resampling::kUp)
    upsampler_ = register_in_list(*this, "upsamplers", Upsample2D(options.out_channels));
}

Tensor VaeBlockImpl::forward(Tensor x) {
  for (const auto& module : *resnets_) x = module->as<ResnetBlock2DImpl>()->forward(x);
  if (downsampler_) return downsampler_(x);
  if (upsampler_) return upsampler_(x, 2 * x.size(2), 2 * x.size(3));
  return x;
}

VaeEncoderImpl::VaeEncoderImpl(const AutoencoderKLConfig& config)
    : conv_in_(register_module("conv_in",
                               conv3x3(config.in_channels, config.block_out_channels.front()))),
      down_blocks_(register_module("down_blocks", torch::nn::ModuleList())),
      mid_block_(register_module("mid_block", VaeMidBlock(config))),
      conv_norm_out_(register_module(
          "conv_norm_out",
          GroupNorm(config.norm_num_groups, config.block_out_channels.back(), kNormEps))),
      conv_out_(register_module(
          "conv_out", conv3x3(config.block_out_channels.back(), 2 * config.latent_channels))) {
  const auto& channels = config.block_out_channels;
  for (size_t i = 0; i < channels.size(); ++i)
    down_blocks_->push_back(VaeBlock(VaeBlockOptions{
        .in_channels = channels[i == 0 ? 0 : i - 1],
        .out_channels = channels[i],
        .num_layers = config.layers_per_block,
        .norm_num_groups = config.norm_num_groups,
        .resampling = i + 1 < channels.size() ? Resampling::kDown : Resampling::kNone}));
}

Tensor VaeEncoderImpl::forward(const Tensor& image, const AutoencoderObserver& observe) {
  Tensor x = conv_in_(image);
  tell(observe, "encoder.conv_in", x);
  for (size_t i = 0; i < down_blocks_->size(); ++i) {
    x = down_blocks_->ptr<VaeBlockImpl>(i)->forward(std::move(x));
    tell(observe, fmt::format("encoder.down_blocks.{}", i), x);
  }
  x = mid_block_(std::move(x));
  tell(observe, "encoder.mid_block", x);
  x = conv_out_(silu_reusing(conv_norm_out_(x)));
  tell(observe, "encoder.conv_out", x);
  return x;
}

VaeDecoderImpl::VaeDecoderImpl(const AutoencoderKLConfig& config)
    : conv_in_(register_module("conv_in",
                               conv3x3(config.latent_channels, config.block_out_channels.back()))),
      mid_block_(register_module("mid_block", VaeMidBlock(config))),
      up_blocks_(register_module("up_blocks", torch::nn::ModuleList())),
      conv_norm_out_(register_module(
          "conv_norm_out",
          GroupNorm(config.norm_num_groups, config.block_out_channels.front(), kNormEps))),
      conv_out_(register_module("conv_out",
                                conv3x3(config.block_out_channels.front(), config.out_channels))) {
  const std::vector<int64_t> channels(config.block_out_channels.rbegin(),
                                      config.block_out_channels.rend());
  for (size_t i = 0; i < channels.size(); ++i)
    up_blocks_->push_back(VaeBlock(VaeBlockOptions{
        .in_channels = channels[i == 0 ? 0 : i - 1],
        .out_channels = channels[i],
        .num_layers = config.layers_per_block + 1,
        .norm_num_groups = config.norm_num_groups,
        .resampling = i + 1 < channels.size() ? Resampling::kUp : Resampling::kNone}));
}

Tensor VaeDecoderImpl::forward(const Tensor& latents, const AutoencoderObserver& observe) {
  Tensor x = conv_in_(latents);
  tell(observe, "decoder.conv_in", x);
  x = mid_block_(std::move(x));
  tell(observe, "decoder.mid_block", x);
  for (size_t i = 0; i < up_blocks_->size(); ++i) {
    x = up_blocks_->ptr<VaeBlockImpl>(i)->forward(std::move(x));
    tell(observe, fmt::format("decoder.up_blocks.{}", i), x);
  }
  x = conv_norm_out_(x);
  x = conv_out_(silu_reusing(x));
  tell(observe, "decoder.conv_out", x);
  return x;
}

}  // namespace molar
