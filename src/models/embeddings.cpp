#include "molar/models/embeddings.h"

#include <cmath>

namespace molar {

// The order of operations is diffusers', so that float32 results are equal to the last bit.
Tensor sinusoidal_embedding(const Tensor& values, const SinusoidOptions& options) {
  const int64_t half = options.num_channels / 2;
  const auto float32 = at::TensorOptions().dtype(at::kFloat).device(values.device());
  const double divisor = static_cast<double>(half) - options.freq_shift;
  const Tensor exponent = at::arange(half, float32) * -std::log(10000.0) / divisor;
  const Tensor angles =
      values.to(at::kFloat).unsqueeze(1) * exponent.exp().unsqueeze(0);  // [N, half]
  std::vector<Tensor> parts = {angles.sin(), angles.cos()};
  if (options.flip_sin_to_cos) std::swap(parts[0], parts[1]);
  if (options.num_channels % 2 == 1) parts.push_back(at::zeros({values.size(0), 1}, float32));
  return at::cat(parts, /*dim=*/1);
}

TimestepEmbeddingImpl::TimestepEmbeddingImpl(const TimestepEmbeddingOptions& options)
    : linear_1_(register_module("linear_1", Linear(options.in_channels, options.time_embed_dim))),
      linear_2_(
          register_module("linear_2", Linear(options.time_embed_dim, options.time_embed_dim))) {
  if (options.cond_proj_dim > 0)
    cond_proj_ = register_module("cond_proj",
                                 Linear(options.cond_proj_dim, options.in_channels, Bias::kNone));
}

Tensor TimestepEmbeddingImpl::forward(const Tensor& sample, const Tensor& condition) {
  const Tensor input = condition.defined() ? sample + cond_proj_(condition) : sample;
  return linear_2_(silu_reusing(linear_1_(input)));
}

}  // namespace molar
