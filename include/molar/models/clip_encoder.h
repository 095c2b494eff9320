/// The transformer that CLIP's text and vision towers share.
/// Source: Radford et al. 2021, arXiv:2103.00020; names as transformers' modeling_clip.py has them.
#pragma once

#include <torch/torch.h>

#include "molar/models/layers.h"

namespace molar {

enum class CLIPActivation {
  kQuickGelu,  ///< x * sigmoid(1.702 x)
  kGelu,       ///< exact, with the error function
};

/// What a token may look at.
enum class CLIPAttentionKind {
  kCausal,  ///< itself and what stands before it: text
  kFull,    ///< everything: pictures
};

struct CLIPEncoderLayerOptions {
  int64_t hidden_size;
  int64_t intermediate_size;
  int64_t num_attention_heads;
  CLIPActivation hidden_act;
  double layer_norm_eps;
  CLIPAttentionKind attention;
};

class CLIPAttentionImpl final : public torch::nn::Module {
 public:
  explicit CLIPAttentionImpl(const CLIPEncoderLayerOptions& options);
  /// x: [B, L, hidden_size]. Returns the same shape.
  Tensor forward(const Tensor& x);

 private:
  int64_t num_heads_;
  bool causal_;
  Linear q_proj_, k_proj_, v_proj_, out_proj_;
};
TORCH_MODULE(CLIPAttention);

class CLIPMLPImpl final : public torch::nn::Module {
 public:
  explicit CLIPMLPImpl(const CLIPEncoderLayerOptions& options);
  /// x: [B, L, hidden_size]. Returns the same shape.
  Tensor forward(const Tensor& x);

 private:
  CLIPActivation hidden_act_;
  Linear fc1_, fc2_;
};
TORCH_MODULE(CLIPMLP);

/// Attention and MLP, each normalised before and added after.
class CLIPEncoderLayerImpl final : public torch::nn::Module {
 public:
  explicit CLIPEncoderLayerImpl(const CLIPEncoderLayerOptions& options);
  /// x: [B, L, hidden_size]. Returns the same shape; x keeps its values.
  Tensor forward(const Tensor& x);

 private:
  LayerNorm layer_norm1_;
  CLIPAttention self_attn_;
  LayerNorm layer_norm2_;
  CLIPMLP mlp_;
};
TORCH_MODULE(CLIPEncoderLayer);

}  // namespace molar
