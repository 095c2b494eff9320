/// Transformer2DModel: transformer blocks over the positions of a feature map.
#pragma once

#include <torch/torch.h>

#include "molar/models/attention.h"

namespace molar {

struct Transformer2DOptions {
  int64_t channels;
  int64_t heads;  ///< each of channels / heads values
  int64_t num_layers = 1;
  int64_t cross_attention_dim;
  int64_t norm_num_groups = 32;
  bool use_linear_projection =
      false;  ///< proj_in, proj_out: Linear (SD 2.x, XL) or 1x1 convolution
  bool only_cross_attention = false;
};

class Transformer2DModelImpl final : public torch::nn::Module {
 public:
  explicit Transformer2DModelImpl(const Transformer2DOptions& options);
  /// x: [B, channels, H, W]; encoder_hidden_states: [B, S, cross_attention_dim]. Returns the shape
  /// of x.
  Tensor forward(const Tensor& x, const Tensor& encoder_hidden_states);

 private:
  bool use_linear_projection_;
  GroupNorm norm_;
  Linear linear_in_{nullptr},
      linear_out_{nullptr};  // one of the two pairs, as "proj_in", "proj_out"
  Conv2d conv_in_{nullptr}, conv_out_{nullptr};
  torch::nn::ModuleList transformer_blocks_;
};
TORCH_MODULE(Transformer2DModel);

}  // namespace molar
