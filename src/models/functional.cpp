#include "molar/models/functional.h"

#include <ATen/ATen.h>

#include "cpu_kernels.h"

namespace molar {
namespace {

// Multiplications of a sum in place; with fewer, oneDNN's preparations cost more than it gains.
constexpr int64_t kWorthOneDnn = 1 << 27;

bool recorded(const Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }

}  // namespace

Tensor fast_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return cpu_kernels_apply(x) ? cpu_linear(x, weight, bias) : at::linear(x, weight, bias);
}

Tensor add_linear_reusing(const Tensor& y, const Tensor& x, const Tensor& weight) {
  if (!y.is_contiguous() || recorded(y) || recorded(x) || recorded(weight))
    return add_reusing(y, fast_linear(x, weight));
  if (cpu_kernels_apply(x) && x.numel() * weight.size(0) >= kWorthOneDnn)
    return cpu_add_linear(y, x, weight);
  Tensor rows = y.view({-1, y.size(-1)});
  rows.addmm_(x.reshape({-1, x.size(-1)}), weight.t());
  return y;
}

Tensor add_reusing(const Tensor& x, const Tensor& y) {
  return !recorded(x) && !recorded(y) ? x.add_(y) : x + y;
}

Tensor mul_reusing(const Tensor& x, const Tensor& y) {
  return !recorded(x) && !recorded(y) ? x.mul_(y) : x * y;
}

Tensor gelu_reusing(const Tensor& x) {
  if (recorded(x)) return at::gelu(x);
  Tensor out = x.contiguous();  // value by value, far from 0 a strided one takes ten times as long
  return at::gelu_(out);
}

Tensor silu_reusing(const Tensor& x) {
  if (recorded(x)) return at::silu(x);
  Tensor out = x;
  return at::silu_(out);
}

}  // namespace molar
