#include "molar/models/layers.h"

#include <fmt/format.h>

#include "cpu_kernels.h"
#include "molar/core/error.h"
#include "molar/io/safetensors.h"

namespace molar {
namespace {

void check_replacement(const Tensor& current, const Tensor& weight) {
  const bool dense = weight.is_contiguous() || weight.is_contiguous(at::MemoryFormat::ChannelsLast);
  if (current.sizes() == weight.sizes() && current.scalar_type() == weight.scalar_type() &&
      current.device() == weight.device() && dense)
    return;
  throw Error(fmt::format("a layer's weight is {} {} on {}, the replacement is {} {} on {}{}",
                          dtype_name(current.scalar_type()), shape_string(current.sizes()),
                          current.device().str(), dtype_name(weight.scalar_type()),
                          shape_string(weight.sizes()), weight.device().str(),
                          dense ? "" : ", neither contiguous nor channels-last"));
}

}  // namespace

Tensor unallocated_parameter(at::IntArrayRef shape) { return at::zeros({1}).expand(shape); }

LinearImpl::LinearImpl(int64_t in_features, int64_t out_features, Bias bias)
    : weight_(register_parameter("weight", unallocated_parameter({out_features, in_features}),
                                 /*requires_grad=*/false)) {
  if (bias == Bias::kLearned)
    bias_ = register_parameter("bias", unallocated_parameter({out_features}), false);
}

Tensor LinearImpl::forward(const Tensor& x) const {
  return with_residual(x, fast_linear(x, weight_, bias_));
}

Tensor LinearImpl::forward_slice(const Tensor& x, int64_t first, int64_t count) const {
  TORCH_CHECK(!has_residual(), "internal: a residual is of the whole result");
  return fast_linear(x, weight_.narrow(0, first, count),
                     bias_.defined() ? bias_.narrow(0, first, count) : bias_);
}

Tensor LinearImpl::project(const Tensor& x, const Tensor& weight) const {
  return fast_linear(x, weight);
}

void LinearImpl::set_weight(const Tensor& weight) {
  check_replacement(weight_, weight);
  weight_.set_data(weight.detach());  // the module's parameter list holds the same handle
}

Conv2dImpl::Conv2dImpl(const Conv2dOptions& options)
    : options_(options),
      weight_(register_parameter("weight",
                                 unallocated_parameter({options.out_channels, options.in_channels,
                                                        options.kernel_size, options.kernel_size}),
                                 /*requires_grad=*/false)),
      bias_(register_parameter("bias", unallocated_parameter({options.out_channels}), false)) {}

// Plain and packed tensors differ in type, so the handle itself is exchanged, in the list too.
void Conv2dImpl::replace_parameter(const Tensor& weight) const {
  const_cast<Conv2dImpl*>(this)->parameters_["weight"] = weight;
  weight_ = weight;
}

const Tensor& Conv2dImpl::weight() const {
  if (packed()) {
    const c10::InferenceMode ordinary_tensors(false);
    const at::NoGradGuard no_grad;
    replace_parameter(cpu_unpack_convolution_weight(weight_));
  }
  return weight_;
}

void Conv2dImpl::set_weight(const Tensor& weight) {
  check_replacement(weight_, weight);
  replace_parameter(weight.detach());
}

Tensor Conv2dImpl::forward(const Tensor& x) {
  if (options_.kernel_size == 1 && options_.stride == 1 && options_.padding == 0 &&
      x.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    const Tensor tokens = forward_tokens(x.permute({0, 2, 3, 1}).flatten(1, 2));
    return tokens.unflatten(1, {x.size(2), x.size(3)}).permute({0, 3, 1, 2});
  }
  return with_residual(x, convolve(x));
}

Tensor Conv2dImpl::convolve(const Tensor& x) {
  if (!cpu_kernels_apply(x) || weight_.requires_grad())
    return at::conv2d(x, weight(), bias_, options_.stride, options_.padding);
  if (!packed()) {
    const c10::InferenceMode ordinary_tensors(false);
    const Tensor plain = weight_;
    replace_parameter(cpu_pack_convolution_weight(plain));
    release_mapped_pages(plain);
  }
  return cpu_convolution(x, weight_, bias_, options_.stride, options_.padding);
}

Tensor Conv2dImpl::forward_tokens(const Tensor& x) const {
  TORCH_CHECK(options_.kernel_size == 1, "internal: tokens need a convolution of kernel size 1");
  return with_residual(
      x, fast_linear(x, weight().view({options_.out_channels, options_.in_channels}), bias_));
}

Tensor Conv2dImpl::project(const Tensor& x, const Tensor& weight) const {
  if (x.dim() == 3) return fast_linear(x, weight.flatten(1));  // tokens
  return at::conv2d(x, weight, {}, options_.stride, options_.padding);
}

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

Tensor in_image_layout(const Tensor& x) {
  const bool channels_last = x.device().is_cpu() || x.scalar_type() != at::kFloat;
  return x.contiguous(channels_last ? at::MemoryFormat::ChannelsLast
                                    : at::MemoryFormat::Contiguous);
}

}  // namespace molar
