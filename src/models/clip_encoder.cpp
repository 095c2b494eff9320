#include "molar/models/clip_encoder.h"

namespace molar {
namespace {

Linear square(int64_t features) { return Linear(features, features); }

}  // namespace

CLIPAttentionImpl::CLIPAttentionImpl(const CLIPEncoderLayerOptions& options)
    : num_heads_(options.num_attention_heads),
      causal_(options.attention == CLIPAttentionKind::kCausal),
      q_proj_(register_module("q_proj", square(options.hidden_size))),
      k_proj_(register_module("k_proj", square(options.hidden_size))),
      v_proj_(register_module("v_proj", square(options.hidden_size))),
      out_proj_(register_module("out_proj", square(options.hidden_size))) {}

Tensor CLIPAttentionImpl::forward(const Tensor& x) {
  const auto split_heads = [this](const Tensor& t) {  // [B, L, D] -> [B, heads, L, D / heads]
    return t.unflatten(-1, {num_heads_, -1}).transpose(1, 2);
  };
  const Tensor heads = at::scaled_dot_product_attention(
      split_heads(q_proj_(x)), split_heads(k_proj_(x)), split_heads(v_proj_(x)),
      /*attn_mask=*/{}, /*dropout_p=*/0.0, causal_);
  return out_proj_(heads.transpose(1, 2).flatten(2));  // [B, L, D]
}

CLIPMLPImpl::CLIPMLPImpl(const CLIPEncoderLayerOptions& options)
    : hidden_act_(options.hidden_act),
      fc1_(register_module("fc1", Linear(options.hidden_size, options.intermediate_size))),
      fc2_(register_module("fc2", Linear(options.intermediate_size, options.hidden_size))) {}

Tensor CLIPMLPImpl::forward(const Tensor& x) {
  const Tensor h = fc1_(x);
  return fc2_(hidden_act_ == CLIPActivation::kGelu ? at::gelu(h) : h * at::sigmoid(1.702 * h));
}

CLIPEncoderLayerImpl::CLIPEncoderLayerImpl(const CLIPEncoderLayerOptions& options)
    : layer_norm1_(
          register_module("layer_norm1", LayerNorm(options.hidden_size, options.layer_norm_eps))),
      self_attn_(register_module("self_attn", CLIPAttention(options))),
      layer_norm2_(
          register_module("layer_norm2", LayerNorm(options.hidden_size, options.layer_norm_eps))),
      mlp_(register_module("mlp", CLIPMLP(options))) {}

Tensor CLIPEncoderLayerImpl::forward(const Tensor& x) {
  const Tensor attended = add_reusing(self_attn_(layer_norm1_(x)), x);
  return add_reusing(mlp_(layer_norm2_(attended)), attended);
}

}  // namespace molar
