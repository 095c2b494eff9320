/// Multi-head attention and the transformer block of Stable Diffusion's UNets.
#pragma once

#include <torch/torch.h>

#include "molar/models/layers.h"

namespace molar {

/// softmax(q k^T / sqrt(dim_head)) v for every head, heads side by side in the last dimension.
/// q: [B, L, heads * dim_head]; k, v: [B, S, heads * dim_head]. mask: undefined, or added to the
/// scores, broadcast to [B, heads, L, S]. Returns [B, L, heads * dim_head].
Tensor multi_head_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads,
                            const Tensor& mask = {});

struct AttentionOptions {
  int64_t query_dim;
  int64_t context_dim;  ///< width of what to_k and to_v read; query_dim for self-attention
  int64_t heads;
  int64_t dim_head;
  Bias qkv_bias = Bias::kNone;  ///< the VAE's attention has one
};

/// diffusers' Attention with its default processor, which never upcasts: `upcast_attention` of a
/// config changes nothing there, and nothing here.
class AttentionImpl final : public torch::nn::Module {
 public:
  explicit AttentionImpl(const AttentionOptions& options);
  /// x: [B, L, query_dim]; context: [B, S, context_dim]. Returns [B, L, query_dim].
  Tensor forward(const Tensor& x, const Tensor& context);

 private:
  int64_t heads_;
  Linear to_q_, to_k_, to_v_;
  Linear to_out_{nullptr};  // "to_out.0"
};
TORCH_MODULE(Attention);

/// Linear to twice the width, one half times the GELU of the other (Shazeer 2020,
/// arXiv:2002.05202).
class GEGLUImpl final : public torch::nn::Module {
 public:
  GEGLUImpl(int64_t in_features, int64_t out_features);
  /// x: [B, L, in_features]. Returns [B, L, out_features].
  Tensor forward(const Tensor& x);

 private:
  int64_t out_features_;
  Linear proj_;  // values in the first half of its outputs, gates in the second
};
TORCH_MODULE(GEGLU);

/// GEGLU to four times the width ("net.0") and back ("net.2"; net.1 is a dropout).
class FeedForwardImpl final : public torch::nn::Module {
 public:
  explicit FeedForwardImpl(int64_t dim);
  /// x: [B, L, dim]. Returns the same shape.
  Tensor forward(const Tensor& x);

 private:
  GEGLU expand_{nullptr};
  Linear contract_{nullptr};
};
TORCH_MODULE(FeedForward);

struct BasicTransformerBlockOptions {
  int64_t heads;
  int64_t dim_head;
  int64_t cross_attention_dim;
  bool only_cross_attention = false;  ///< attn1 reads the text too
};

/// Self-attention, attention to the text, feed-forward; each normalised before and added after.
class BasicTransformerBlockImpl final : public torch::nn::Module {
 public:
  explicit BasicTransformerBlockImpl(const BasicTransformerBlockOptions& options);
  /// x: [B, L, heads * dim_head], not kept by the caller: its memory may be reused.
  /// encoder_hidden_states: [B, S, cross_attention_dim]. Returns the shape of x.
  Tensor forward(Tensor x, const Tensor& encoder_hidden_states);

 private:
  bool only_cross_attention_;
  LayerNorm norm1_, norm2_, norm3_;
  Attention attn1_, attn2_;
  FeedForward ff_;
};
TORCH_MODULE(BasicTransformerBlock);

}  // namespace molar
