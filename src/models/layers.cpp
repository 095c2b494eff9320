#include "molar/models/layers.h"

#include <fmt/format.h>

#include "molar/core/error.h"

namespace molar {
namespace {

// 1x1 convolution weights are contiguous and channels-last at once, whatever their strides say.
bool has_layout_of(const Tensor& parameter, const Tensor& weight) {
  for (const auto layout : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast})
    if (parameter.is_contiguous(layout)) return weight.is_contiguous(layout);
  return weight.is_non_overlapping_and_dense();  // a parameter without storage yet has no layout
}

// set_data keeps the member, the module's parameter list and every other handle in step.
void replace_weight(const Tensor& parameter, const Tensor& weight) {
  const bool same_layout = has_layout_of(parameter, weight);
  if (parameter.sizes() != weight.sizes() || parameter.dtype() != weight.dtype() ||
      parameter.device() != weight.device() || !same_layout)
    throw Error(fmt::format("a layer's weight is {} {} on {}, the replacement is {} {} on {}{}",
                            dtype_name(parameter.scalar_type()), shape_string(parameter.sizes()),
                            parameter.device().str(), dtype_name(weight.scalar_type()),
                            shape_string(weight.sizes()), weight.device().str(),
                            same_layout ? "" : " in another memory layout"));
  parameter.set_data(weight.detach());
}

bool recorded(const Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }

}  // namespace

Tensor unallocated_parameter(at::IntArrayRef shape) { return at::zeros({1}).expand(shape); }

LinearImpl::LinearImpl(int64_t in_features, int64_t out_features, Bias bias)
    : weight_(register_parameter("weight", unallocated_parameter({out_features, in_features}),
                                 /*requires_grad=*/false)) {
  if (bias == Bias::kLearned)
    bias_ = register_parameter("bias", unallocated_parameter({out_features}), false);
}

void LinearImpl::set_weight(const Tensor& weight) { replace_weight(weight_, weight); }

Conv2dImpl::Conv2dImpl(const Conv2dOptions& options)
    : options_(options),
      weight_(register_parameter(
          "weight",
          unallocated_parameter({options.out_channels, options.in_channels, options.kernel_size,
                                 options.kernel_size}),
          /*requires_grad=*/false)),
      bias_(register_parameter("bias", unallocated_parameter({options.out_channels}), false)) {}

Tensor Conv2dImpl::forward(const Tensor& x) const {
  return at::conv2d(x, weight_, bias_, options_.stride, options_.padding);
}

Tensor Conv2dImpl::forward_tokens(const Tensor& x) const {
  TORCH_CHECK(options_.kernel_size == 1, "internal: tokens need a convolution of kernel size 1");
  return at::linear(x, weight_.view({options_.out_channels, options_.in_channels}), bias_);
}

void Conv2dImpl::set_weight(const Tensor& weight) { replace_weight(weight_, weight); }

GroupNormImpl::GroupNormImpl(int64_t num_groups, int64_t num_channels, double eps)
    : num_groups_(num_groups),
      eps_(eps),
      weight_(register_parameter("weight", unallocated_parameter({num_channels}), false)),
      bias_(register_parameter("bias", unallocated_parameter({num_channels}), false)) {}

Tensor GroupNormImpl::forward(const Tensor& x) const {
  return at::group_norm(x, num_groups_, weight_, bias_, eps_);
}

LayerNormImpl::LayerNormImpl(int64_t features, double eps)
    : eps_(eps),
      weight_(register_parameter("weight", unallocated_parameter({features}), false)),
      bias_(register_parameter("bias", unallocated_parameter({features}), false)) {}

Tensor LayerNormImpl::forward(const Tensor& x) const {
  return at::layer_norm(x, weight_.sizes(), weight_, bias_, eps_);
}

EmbeddingImpl::EmbeddingImpl(int64_t num_embeddings, int64_t features)
    : weight_(register_parameter("weight", unallocated_parameter({num_embeddings, features}),
                                 /*requires_grad=*/false)) {}

Tensor add_reusing(const Tensor& x, const Tensor& y) {
  return !recorded(x) && !recorded(y) ? x.add_(y) : x + y;
}

Tensor silu_reusing(const Tensor& x) {
  if (recorded(x)) return at::silu(x);
  Tensor out = x;
  return at::silu_(out);
}

Tensor in_layout_of(const Tensor& x, const Tensor& weight) {
  return x.contiguous(weight.suggest_memory_format());
}

}  // namespace molar
