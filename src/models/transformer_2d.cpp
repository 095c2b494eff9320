#include "molar/models/transformer_2d.h"

namespace molar {

Transformer2DModelImpl::Transformer2DModelImpl(const Transformer2DOptions& options)
    : use_linear_projection_(options.use_linear_projection),
      norm_(register_module("norm", GroupNorm(options.norm_num_groups, options.channels, 1e-6))) {
  const int64_t dim_head = options.channels / options.heads;
  const int64_t inner = options.heads * dim_head;
  if (use_linear_projection_) {
    linear_in_ = register_module("proj_in", Linear(options.channels, inner));
    linear_out_ = register_module("proj_out", Linear(inner, options.channels));
  } else {
    conv_in_ = register_module(
        "proj_in", Conv2d(Conv2dOptions{
                       .in_channels = options.channels, .out_channels = inner, .kernel_size = 1}));
    conv_out_ = register_module(
        "proj_out", Conv2d(Conv2dOptions{
                        .in_channels = inner, .out_channels = options.channels, .kernel_size = 1}));
  }
  register_module("transformer_blocks", transformer_blocks_);
  for (int64_t i = 0; i < options.num_layers; ++i)
    transformer_blocks_->push_back(BasicTransformerBlock(
        BasicTransformerBlockOptions{.heads = options.heads,
                                     .dim_head = dim_head,
                                     .cross_attention_dim = options.cross_attention_dim,
                                     .only_cross_attention = options.only_cross_attention}));
}

Tensor Transformer2DModelImpl::forward(const Tensor& x, const Tensor& encoder_hidden_states) {
  const int64_t height = x.size(2), width = x.size(3);
  // [B, C, H, W] -> [B, H * W, C]: a view where x is channels-last.
  Tensor tokens = norm_(x).permute({0, 2, 3, 1}).flatten(1, 2);
  // A 1x1 convolution is the same matrix product on every token.
  tokens = use_linear_projection_ ? linear_in_(tokens) : conv_in_->forward_tokens(tokens);
  for (const auto& block : *transformer_blocks_)
    tokens = block->as<BasicTransformerBlock>()->forward(std::move(tokens), encoder_hidden_states);
  tokens = use_linear_projection_ ? linear_out_(tokens) : conv_out_->forward_tokens(tokens);
  const Tensor out = tokens.unflatten(1, {height, width}).permute({0, 3, 1, 2});  // [B, C, H, W]
  return add_reusing(out, x);
}

}  // namespace molar
