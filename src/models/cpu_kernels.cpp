#include "cpu_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace molar {
namespace {

constexpr int64_t kScoresInCache = 1 << 20;  // 4 MiB: of 1, 2, 4 and 8 the fastest on two cores

using Scalars = c10::List<std::optional<at::Scalar>>;
using LinearSignature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&,
                               std::string_view, Scalars, std::optional<std::string_view>);
using AddConvolutionSignature = Tensor&(Tensor&, const Tensor&, const Tensor&,
                                        const std::optional<Tensor>&, at::IntArrayRef,
                                        at::IntArrayRef, at::IntArrayRef, int64_t, std::string_view,
                                        std::optional<at::Scalar>, std::optional<std::string_view>,
                                        Scalars, std::optional<std::string_view>);
using ConvolutionSignature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&,
                                    at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                                    std::string_view, Scalars, std::optional<std::string_view>);

using PackSignature = Tensor(const Tensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef,
                             int64_t, at::OptionalIntArrayRef);

template <typename Signature>
using Operator = std::optional<c10::TypedOperatorHandle<Signature>>;

template <typename Signature>
Operator<Signature> find_operator(const char* name, const char* overload = "") {
  const auto found = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!found || !found->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return std::nullopt;
  try {
    return found->typed<Signature>();
  } catch (const c10::Error&) {  // a libtorch that gives it other arguments
    return std::nullopt;
  }
}

const Operator<LinearSignature>& linear_operator() {
  static const auto found = find_operator<LinearSignature>("mkldnn::_linear_pointwise");
  return found;
}

const Operator<AddConvolutionSignature>& add_convolution_operator() {
  static const auto found =
      find_operator<AddConvolutionSignature>("mkldnn::_convolution_pointwise_", "binary");
  return found;
}

const Operator<ConvolutionSignature>& convolution_operator() {
  static const auto found = find_operator<ConvolutionSignature>("mkldnn::_convolution_pointwise");
  return found;
}

const Operator<PackSignature>& pack_operator() {
  static const auto found = find_operator<PackSignature>("mkldnn::_reorder_convolution_weight");
  return found;
}

std::optional<Tensor> optional_of(const Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

}  // namespace

bool cpu_kernels_apply(const Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kFloat && !at::GradMode::is_enabled() &&
         at::globalContext().userEnabledMkldnn() && linear_operator() &&
         add_convolution_operator() && convolution_operator() && pack_operator();
}

Tensor cpu_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return linear_operator()->call(x, weight, optional_of(bias), "none", Scalars(), "");
}

// Of oneDNN's operators only a convolution adds in place. On tokens as an image one pixel wide it
// is the same product, and takes half the time of a sum into new memory (320 to 2560 features).
Tensor cpu_add_linear(const Tensor& y, const Tensor& x, const Tensor& weight) {
  const auto as_image = [](const Tensor& tokens) {  // [..., C] -> channels-last [1, C, n, 1]
    return tokens.reshape({1, -1, 1, tokens.size(-1)}).permute({0, 3, 1, 2});
  };
  const int64_t ones[] = {1, 1}, none[] = {0, 0};
  Tensor sum = as_image(y);
  add_convolution_operator()->call(sum, as_image(x), weight.unsqueeze(-1).unsqueeze(-1),
                                   std::nullopt, none, ones, ones, /*groups=*/1, "add",
                                   /*alpha=*/1.0, std::nullopt, Scalars(), std::nullopt);
  return y;
}

Tensor cpu_pack_convolution_weight(const Tensor& weight) {
  const int64_t ones[] = {1,
                          1};  // the order depends on the channels, not on padding, stride or size
  return pack_operator()->call(weight, ones, ones, ones, /*groups=*/1, std::nullopt);
}

Tensor cpu_unpack_convolution_weight(const Tensor& packed) { return packed.to_dense(); }

Tensor cpu_convolution(const Tensor& x, const Tensor& packed_weight, const Tensor& bias,
                       int64_t stride, int64_t padding) {
  const int64_t strides[] = {stride, stride}, paddings[] = {padding, padding}, ones[] = {1, 1};
  return convolution_operator()->call(x, packed_weight, optional_of(bias), paddings, strides, ones,
                                      /*groups=*/1, "none", Scalars(), "");
}

// Each thread takes whole parts: the scores of some queries of one head, small enough to stay in
// its cache between the two products.
Tensor cpu_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  const int64_t batch = q.size(0), queries = q.size(1), keys = k.size(1), dim = q.size(2) / heads;
  const int64_t part =
      std::clamp<int64_t>(kScoresInCache / keys, 32, std::max<int64_t>(queries, 32));
  const int64_t num_parts = (queries + part - 1) / part;
  const auto by_head = [heads, dim](const Tensor& x) {  // [B, L, heads * D] -> [B, heads, L, D]
    return x.unflatten(2, {heads, dim}).transpose(1, 2);
  };
  const Tensor q_heads = by_head(q);
  const Tensor k_heads = by_head(k * (1.0 / std::sqrt(static_cast<double>(dim)))).contiguous();
  const Tensor v_heads = by_head(v).transpose(2, 3).contiguous();  // [B, heads, D, S]
  const Tensor out = at::empty({batch, queries, heads, dim}, q.options());
  at::parallel_for(0, batch * heads * num_parts, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode inference;  // a thread of the pool has modes of its own
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / num_parts / heads, h = i / num_parts % heads;
      const int64_t first = i % num_parts * part, last = std::min(first + part, queries);
      Tensor scores = cpu_linear(q_heads[b][h].slice(0, first, last), k_heads[b][h], {});
      at::_softmax_out(scores, scores, /*dim=*/1, /*half_to_float=*/false);
      const Tensor result = cpu_linear(scores, v_heads[b][h], {});
      out[b].slice(0, first, last).select(1, h).copy_(result);
    }
  });
  return out.flatten(2);
}

}  // namespace molar
