#include "molar/models/attention.h"

#include "cpu_kernels.h"

namespace molar {

Tensor multi_head_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads,
                            const Tensor& mask) {
  if (!mask.defined() && cpu_kernels_apply(q)) return cpu_attention(q, k, v, heads);
  const auto split = [heads](const Tensor& x) {  // [B, L, D] -> [B, heads, L, D / heads]
    return x.unflatten(2, {heads, x.size(2) / heads}).transpose(1, 2);
  };
  const auto bias = mask.defined() ? std::optional<Tensor>(mask) : std::nullopt;
  const Tensor out = at::scaled_dot_product_attention(split(q), split(k), split(v), bias);
  return out.transpose(1, 2).flatten(2);
}

AttentionImpl::AttentionImpl(const AttentionOptions& options)
    : heads_(options.heads),
      to_q_(register_module(
          "to_q", Linear(options.query_dim, options.heads * options.dim_head, options.qkv_bias))),
      to_k_(register_module(
          "to_k", Linear(options.context_dim, options.heads * options.dim_head, options.qkv_bias))),
      to_v_(register_module("to_v", Linear(options.context_dim, options.heads * options.dim_head,
                                           options.qkv_bias))) {
  const auto to_out = register_module("to_out", std::make_shared<torch::nn::Module>("ModuleList"));
  to_out_ =
      to_out->register_module("0", Linear(options.heads * options.dim_head, options.query_dim));
}

Tensor AttentionImpl::forward(const Tensor& x, const Tensor& context) {
  return to_out_(multi_head_attention(to_q_(x), to_k_(context), to_v_(context), heads_));
}

GEGLUImpl::GEGLUImpl(int64_t in_features, int64_t out_features)
    : out_features_(out_features),
      proj_(register_module("proj", Linear(in_features, 2 * out_features))) {}

Tensor GEGLUImpl::forward(const Tensor& x) {
  if (proj_->has_residual()) {  // of the whole result: computed once
    const auto parts = proj_(x).chunk(2, /*dim=*/-1);
    return mul_reusing(gelu_reusing(parts[1]), parts[0]);
  }
  // Two products of half the width: both results are contiguous, and one is reused for the other.
  const Tensor gate = gelu_reusing(proj_->forward_slice(x, out_features_, out_features_));
  return mul_reusing(gate, proj_->forward_slice(x, 0, out_features_));
}

FeedForwardImpl::FeedForwardImpl(int64_t dim) {
  const auto net = register_module("net", std::make_shared<torch::nn::Module>("ModuleList"));
  expand_ = net->register_module("0", GEGLU(dim, 4 * dim));
  contract_ = net->register_module("2", Linear(4 * dim, dim));
}

Tensor FeedForwardImpl::forward(const Tensor& x) { return contract_(expand_(x)); }

BasicTransformerBlockImpl::BasicTransformerBlockImpl(const BasicTransformerBlockOptions& options)
    : only_cross_attention_(options.only_cross_attention),
      norm1_(register_module("norm1", LayerNorm(options.heads * options.dim_head))),
      norm2_(register_module("norm2", LayerNorm(options.heads * options.dim_head))),
      norm3_(register_module("norm3", LayerNorm(options.heads * options.dim_head))),
      attn1_(register_module(
          "attn1", Attention(AttentionOptions{.query_dim = options.heads * options.dim_head,
                                              .context_dim = options.only_cross_attention
                                                                 ? options.cross_attention_dim
                                                                 : options.heads * options.dim_head,
                                              .heads = options.heads,
                                              .dim_head = options.dim_head}))),
      attn2_(register_module(
          "attn2", Attention(AttentionOptions{.query_dim = options.heads * options.dim_head,
                                              .context_dim = options.cross_attention_dim,
                                              .heads = options.heads,
                                              .dim_head = options.dim_head}))),
      ff_(register_module("ff", FeedForward(options.heads * options.dim_head))) {}

Tensor BasicTransformerBlockImpl::forward(Tensor x, const Tensor& encoder_hidden_states) {
  Tensor normed = norm1_(x);
  x = add_reusing(x, attn1_(normed, only_cross_attention_ ? encoder_hidden_states : normed));
  normed = norm2_(x);
  x = add_reusing(x, attn2_(normed, encoder_hidden_states));
  normed = norm3_(x);
  return add_reusing(x, ff_(normed));
}

}  // namespace molar
