/// The leaves of every model: Linear, Conv2d, GroupNorm, LayerNorm, Embedding.
/// torch::nn's own would fill each weight with random numbers before the checkpoint replaces it;
/// these register parameters of the right shape that hold one element, so that building a model is
/// free and no second model is ever allocated. `load_weights` (model_loader.h) gives them their
/// storage.
#pragma once

#include <torch/torch.h>

#include "molar/core/tensor.h"
#include "molar/models/functional.h"
#include "molar/models/layer_hook.h"

namespace molar {

enum class Bias { kNone, kLearned };

/// A tensor of the wanted shape with one element of storage, for register_parameter.
Tensor unallocated_parameter(at::IntArrayRef shape);

/// y = x W^T + b over the last dimension.
class LinearImpl final : public torch::nn::Module, public AdaptableLayer {
 public:
  LinearImpl(int64_t in_features, int64_t out_features, Bias bias = Bias::kLearned);
  /// x: [..., in_features]. Returns [..., out_features].
  Tensor forward(const Tensor& x) const;
  /// Only the outputs [first, first + count), without a residual: an error where there is one.
  /// Returns [..., count].
  Tensor forward_slice(const Tensor& x, int64_t first, int64_t count) const;

  const Tensor& weight() const override { return weight_; }
  void set_weight(const Tensor& weight) override;
  Tensor project(const Tensor& x, const Tensor& weight) const override;

 private:
  Tensor weight_, bias_;  // [out, in], [out] or undefined
};
TORCH_MODULE(Linear);

/// `padding` is the same on all sides; asymmetric padding is the caller's (VAE downsampling).
struct Conv2dOptions {
  int64_t in_channels, out_channels;
  int64_t kernel_size = 3, stride = 1, padding = 0;
};

/// Convolution with bias. See Note [Image layout] for the memory layout of its result.
class Conv2dImpl final : public torch::nn::Module, public AdaptableLayer {
 public:
  explicit Conv2dImpl(const Conv2dOptions& options);
  /// x: [B, in, H, W]. Returns [B, out, H', W'].
  Tensor forward(const Tensor& x);
  /// The same for kernel size 1 on tokens: x: [B, L, in]. Returns [B, L, out].
  Tensor forward_tokens(const Tensor& x) const;

  /// Note [Packed weights]: inference on the CPU rearranges the weight for oneDNN at the first call
  /// and keeps only that form; this brings back the plain one, with the same values.
  const Tensor& weight() const override;
  void set_weight(const Tensor& weight) override;
  Tensor project(const Tensor& x, const Tensor& weight) const override;
  const Conv2dOptions& options() const { return options_; }

 private:
  Tensor convolve(const Tensor& x);  // without the residual
  bool packed() const { return weight_.is_mkldnn(); }
  void replace_parameter(const Tensor& weight) const;

  Conv2dOptions options_;
  mutable Tensor weight_;  // [out, in, kh, kw]; plain or packed
  Tensor bias_;            // [out]
};
TORCH_MODULE(Conv2d);

/// Affine group normalisation; keeps the memory layout of its input.
class GroupNormImpl final : public torch::nn::Module {
 public:
  GroupNormImpl(int64_t num_groups, int64_t num_channels, double eps);
  /// x: [B, C, ...]. Returns the same shape.
  Tensor forward(const Tensor& x) const;

 private:
  int64_t num_groups_;
  double eps_;
  Tensor weight_, bias_;  // [C], [C]
};
TORCH_MODULE(GroupNorm);

/// Affine normalisation over the last dimension.
class LayerNormImpl final : public torch::nn::Module {
 public:
  explicit LayerNormImpl(int64_t features, double eps = 1e-5);
  /// x: [..., features]. Returns the same shape.
  Tensor forward(const Tensor& x) const;

 private:
  double eps_;
  Tensor weight_, bias_;  // [features], [features]
};
TORCH_MODULE(LayerNorm);

class EmbeddingImpl final : public torch::nn::Module {
 public:
  EmbeddingImpl(int64_t num_embeddings, int64_t features);
  /// ids: int64 [...]. Returns [..., features].
  Tensor forward(const Tensor& ids) const { return at::embedding(weight_, ids); }
  const Tensor& weight() const { return weight_; }

 private:
  Tensor weight_;  // [num_embeddings, features]
};
TORCH_MODULE(Embedding);

/// Note [Image layout]: feature maps [B, C, H, W] are channels-last on the CPU and, for half
/// precision, on CUDA: convolutions are faster so, and the tokens [B, H * W, C] of a transformer
/// are a view. Every layer here keeps its input's layout, so one call at a model's entrance is
/// enough.
Tensor in_image_layout(const Tensor& x);

}  // namespace molar
