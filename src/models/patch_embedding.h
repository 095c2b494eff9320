/// How vision transformers cut a picture into tokens.
#pragma once

#include "molar/models/layers.h"

namespace molar {

/// A convolution whose windows touch: one token for each square of patch_size pixels.
class PatchEmbeddingImpl final : public torch::nn::Module {
 public:
  PatchEmbeddingImpl(int64_t num_channels, int64_t features, int64_t patch_size, Bias bias)
      : patch_size_(patch_size),
        weight_(register_parameter(
            "weight", unallocated_parameter({features, num_channels, patch_size, patch_size}),
            /*requires_grad=*/false)) {
    if (bias == Bias::kLearned)
      bias_ = register_parameter("bias", unallocated_parameter({features}), false);
  }

  /// [B, C, H, W] -> [B, H / patch_size * W / patch_size, features], rows of the picture first.
  Tensor forward(const Tensor& pixels) const {
    return at::conv2d(pixels, weight_, bias_, patch_size_).flatten(2).transpose(1, 2);
  }

 private:
  int64_t patch_size_;
  Tensor weight_, bias_;
};
TORCH_MODULE(PatchEmbedding);

}  // namespace molar
