#include "molar/models/resnet.h"

namespace molar {
namespace {

Conv2d conv3x3(int64_t in_channels, int64_t out_channels) {
  return Conv2d(
      Conv2dOptions{.in_channels = in_channels, .out_channels = out_channels, .padding = 1});
}

}  // namespace

ResnetBlock2DImpl::ResnetBlock2DImpl(const ResnetBlock2DOptions& options)
    : options_(options),
      norm1_(register_module("norm1", GroupNorm(options.groups, options.in_channels, options.eps))),
      conv1_(register_module("conv1", conv3x3(options.in_channels, options.out_channels))),
      norm2_(
          register_module("norm2", GroupNorm(options.groups, options.out_channels, options.eps))),
      conv2_(register_module("conv2", conv3x3(options.out_channels, options.out_channels))) {
  if (options.temb_channels > 0) {
    const int64_t parts = options.time_scale_shift == TimeScaleShift::kScaleShift ? 2 : 1;
    time_emb_proj_ = register_module("time_emb_proj",
                                     Linear(options.temb_channels, parts * options.out_channels));
  }
  if (options.in_channels != options.out_channels)
    conv_shortcut_ =
        register_module("conv_shortcut", Conv2d(Conv2dOptions{.in_channels = options.in_channels,
                                                              .out_channels = options.out_channels,
                                                              .kernel_size = 1}));
}

Tensor ResnetBlock2DImpl::forward(const Tensor& x, const Tensor& activated_temb) {
  Tensor temb;  // [B, C or 2 C, 1, 1]
  if (time_emb_proj_) temb = time_emb_proj_(activated_temb).unsqueeze(-1).unsqueeze(-1);

  Tensor h = silu_reusing(norm1_(x));
  h = conv1_(h);
  if (temb.defined() && options_.time_scale_shift == TimeScaleShift::kScaleShift) {
    const auto scale_shift = temb.chunk(2, /*dim=*/1);
    h = at::addcmul(scale_shift[1], norm2_(h), 1 + scale_shift[0]);
  } else {
    h = norm2_(temb.defined() ? add_reusing(h, temb) : h);
  }
  h = silu_reusing(h);
  h = conv2_(h);
  h = add_reusing(h, conv_shortcut_ ? conv_shortcut_(x) : x);
  return options_.output_scale_factor == 1.0 ? h : h / options_.output_scale_factor;
}

Downsample2DImpl::Downsample2DImpl(int64_t channels, int64_t padding)
    : conv_(register_module("conv", Conv2d(Conv2dOptions{.in_channels = channels,
                                                         .out_channels = channels,
                                                         .stride = 2,
                                                         .padding = padding}))) {}

Tensor Downsample2DImpl::forward(const Tensor& x) {
  if (conv_->options().padding > 0) return conv_(x);
  return conv_(at::constant_pad_nd(x, {0, 1, 0, 1}));
}

Upsample2DImpl::Upsample2DImpl(int64_t channels)
    : conv_(register_module("conv", conv3x3(channels, channels))) {}

Tensor Upsample2DImpl::forward(const Tensor& x, int64_t height, int64_t width) {
  return conv_(at::upsample_nearest2d(x, {height, width}));
}

}  // namespace molar
