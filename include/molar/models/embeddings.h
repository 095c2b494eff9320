/// Embeddings of the timestep and of SDXL's sizes: sinusoids, then two linear layers.
#pragma once

#include <torch/torch.h>

#include "molar/models/layers.h"

namespace molar {

/// Frequencies fall geometrically from 1 to 1/10000 (Vaswani et al. 2017, arXiv:1706.03762).
struct SinusoidOptions {
  int64_t num_channels = 320;
  bool flip_sin_to_cos = true;  ///< cosines first
  double freq_shift =
      0.0;  ///< subtracted from the number of frequencies that the exponent divides by
};

/// values: [N], any number type. Returns [N, num_channels], float32 whatever the models compute in;
/// an odd number of channels ends in a zero.
Tensor sinusoidal_embedding(const Tensor& values, const SinusoidOptions& options);

struct TimestepEmbeddingOptions {
  int64_t in_channels;
  int64_t time_embed_dim;
  int64_t cond_proj_dim = 0;  ///< 0: no timestep_cond (LCM has one)
};

/// linear_1 -> SiLU -> linear_2, on sinusoids plus, where there is one, a projected condition.
class TimestepEmbeddingImpl final : public torch::nn::Module {
 public:
  explicit TimestepEmbeddingImpl(const TimestepEmbeddingOptions& options);
  /// sample: [B, in_channels]; condition: [B, cond_proj_dim] or undefined. Returns [B,
  /// time_embed_dim].
  Tensor forward(const Tensor& sample, const Tensor& condition = {});

 private:
  Linear linear_1_, linear_2_, cond_proj_{nullptr};
};
TORCH_MODULE(TimestepEmbedding);

}  // namespace molar
