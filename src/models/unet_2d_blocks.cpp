#include "molar/models/unet_2d_blocks.h"

#include "molar/models/gradient_checkpoint.h"

namespace molar {
namespace {

ResnetBlock2D make_resnet(int64_t in_channels, int64_t out_channels,
                          const UNetBlockOptions& shared) {
  return ResnetBlock2D(ResnetBlock2DOptions{.in_channels = in_channels,
                                            .out_channels = out_channels,
                                            .temb_channels = shared.temb_channels,
                                            .groups = shared.norm_num_groups,
                                            .eps = shared.norm_eps,
                                            .time_scale_shift = shared.time_scale_shift,
                                            .output_scale_factor = shared.output_scale_factor});
}

Transformer2DModel make_transformer(int64_t channels, int64_t num_layers,
                                    const UNetBlockOptions& shared) {
  return Transformer2DModel(
      Transformer2DOptions{.channels = channels,
                           .heads = shared.heads,
                           .num_layers = num_layers,
                           .cross_attention_dim = shared.cross_attention_dim,
                           .norm_num_groups = shared.norm_num_groups,
                           .use_linear_projection = shared.use_linear_projection,
                           .only_cross_attention = shared.only_cross_attention});
}

// Registered only where there is one, as diffusers does; an empty list has no names in a state
// dict.
torch::nn::ModuleList make_attentions(int64_t channels,
                                      const std::vector<int64_t>& transformer_layers,
                                      const UNetBlockOptions& shared) {
  torch::nn::ModuleList attentions;
  for (const int64_t depth : transformer_layers)
    attentions->push_back(make_transformer(channels, depth, shared));
  return attentions;
}

Tensor run_part(const NetworkPart& part, const std::vector<Tensor>& inputs,
                Activations activations) {
  return activations == Activations::kKept ? part(inputs) : checkpointed(part, inputs);
}

Tensor run_resnet(const torch::nn::ModuleList& resnets, size_t i, const Tensor& x,
                  const Tensor& activated_temb, Activations activations) {
  const auto resnet = resnets->ptr<ResnetBlock2DImpl>(i);
  return run_part(
      [resnet](const std::vector<Tensor>& inputs) { return resnet->forward(inputs[0], inputs[1]); },
      {x, activated_temb}, activations);
}

// x unchanged where the block has no attention.
Tensor run_attention(const torch::nn::ModuleList& attentions, size_t i, const Tensor& x,
                     const Tensor& encoder_hidden_states, Activations activations) {
  if (attentions->is_empty()) return x;
  const auto attention = attentions->ptr<Transformer2DModelImpl>(i);
  return run_part(
      [attention](const std::vector<Tensor>& inputs) {
        return attention->forward(inputs[0], inputs[1]);
      },
      {x, encoder_hidden_states}, activations);
}

}  // namespace

UNetDownBlockImpl::UNetDownBlockImpl(const UNetDownBlockOptions& options,
                                     const UNetBlockOptions& shared)
    : resnets_(register_module("resnets", torch::nn::ModuleList())),
      attentions_(register_module(
          "attentions",
          make_attentions(options.out_channels, options.transformer_layers, shared))) {
  for (int64_t i = 0; i < options.num_layers; ++i)
    resnets_->push_back(make_resnet(i == 0 ? options.in_channels : options.out_channels,
                                    options.out_channels, shared));
  if (options.add_downsample) {
    const auto list = register_module("downsamplers", torch::nn::ModuleList());
    downsampler_ = Downsample2D(options.out_channels, options.downsample_padding);
    list->push_back(downsampler_);
  }
}

std::vector<Tensor> UNetDownBlockImpl::forward(Tensor x, const Tensor& activated_temb,
                                               const Tensor& encoder_hidden_states) {
  std::vector<Tensor> states;
  for (size_t i = 0; i < resnets_->size(); ++i) {
    x = run_resnet(resnets_, i, x, activated_temb, activations_);
    x = run_attention(attentions_, i, x, encoder_hidden_states, activations_);
    states.push_back(x);
  }
  if (downsampler_) states.push_back(downsampler_(x));
  return states;
}

UNetMidBlockImpl::UNetMidBlockImpl(int64_t channels, std::optional<int64_t> transformer_layers,
                                   const UNetBlockOptions& shared)
    : resnets_(register_module("resnets", torch::nn::ModuleList())),
      attentions_(register_module("attentions", torch::nn::ModuleList())) {
  resnets_->push_back(make_resnet(channels, channels, shared));
  if (!transformer_layers) return;
  attentions_->push_back(make_transformer(channels, *transformer_layers, shared));
  resnets_->push_back(make_resnet(channels, channels, shared));
}

Tensor UNetMidBlockImpl::forward(Tensor x, const Tensor& activated_temb,
                                 const Tensor& encoder_hidden_states) {
  x = run_resnet(resnets_, 0, x, activated_temb, activations_);
  for (size_t i = 0; i < attentions_->size(); ++i) {
    x = run_attention(attentions_, i, x, encoder_hidden_states, activations_);
    x = run_resnet(resnets_, i + 1, x, activated_temb, activations_);
  }
  return x;
}

UNetUpBlockImpl::UNetUpBlockImpl(const UNetUpBlockOptions& options, const UNetBlockOptions& shared)
    : resnets_(register_module("resnets", torch::nn::ModuleList())),
      attentions_(register_module(
          "attentions",
          make_attentions(options.out_channels, options.transformer_layers, shared))) {
  for (int64_t i = 0; i < options.num_layers; ++i) {
    const int64_t x_channels = i == 0 ? options.prev_out_channels : options.out_channels;
    const int64_t skip_channels =
        i == options.num_layers - 1 ? options.in_channels : options.out_channels;
    resnets_->push_back(make_resnet(x_channels + skip_channels, options.out_channels, shared));
  }
  if (options.add_upsample) {
    const auto list = register_module("upsamplers", torch::nn::ModuleList());
    upsampler_ = Upsample2D(options.out_channels);
    list->push_back(upsampler_);
  }
}

Tensor UNetUpBlockImpl::forward(Tensor x, std::vector<Tensor> skips, const Tensor& activated_temb,
                                const Tensor& encoder_hidden_states, std::optional<MapSize> size) {
  for (size_t i = 0; i < resnets_->size(); ++i) {
    x = at::cat({x, skips.back()}, /*dim=*/1);
    skips.pop_back();
    x = run_resnet(resnets_, i, x, activated_temb, activations_);
    x = run_attention(attentions_, i, x, encoder_hidden_states, activations_);
  }
  if (!upsampler_) return x;
  const MapSize target = size.value_or(MapSize{2 * x.size(2), 2 * x.size(3)});
  return upsampler_->forward(x, target.height, target.width);
}

}  // namespace molar
