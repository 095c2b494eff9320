#include "molar/adapters/low_rank.h"

#include <ATen/ATen.h>

#include <utility>

namespace molar {

LoraLayer plain_layer(const LoraMatrices& matrices, std::vector<int64_t> weight_shape,
                      at::ScalarType dtype) {
  LowRankFactors factors{.down = matrices.down.to(dtype), .up = matrices.up.to(dtype), .mid = {}};
  if (weight_shape.size() == 4) {
    std::vector<int64_t> down_shape = weight_shape;
    down_shape[0] = matrices.down.size(0);
    factors.down = factors.down.view(down_shape);
    factors.up = factors.up.unsqueeze(-1).unsqueeze(-1);
  }
  return {.factors = std::move(factors), .scale = 1.0, .weight_shape = std::move(weight_shape)};
}

LoraLayer plain_layer(const std::vector<LoraMatrices>& parts, std::vector<int64_t> weight_shape,
                      at::ScalarType dtype) {
  if (parts.size() == 1) return plain_layer(parts.front(), std::move(weight_shape), dtype);
  int64_t rank = 0;
  for (const LoraMatrices& part : parts) rank += part.down.size(0);
  const LoraMatrices first = parts.front();
  const LoraMatrices sum{
      .down = at::empty({rank, first.down.size(1)}, first.down.options().dtype(dtype)),
      .up = at::empty({first.up.size(0), rank}, first.up.options().dtype(dtype))};
  int64_t place = 0;
  for (const LoraMatrices& part : parts) {
    const int64_t own = part.down.size(0);
    sum.down.narrow(0, place, own).copy_(part.down);
    sum.up.narrow(1, place, own).copy_(part.up);
    place += own;
  }
  return plain_layer(sum, std::move(weight_shape), dtype);
}

LoraLayer as_plain_layer(const LoraLayer& layer, at::ScalarType dtype) {
  const auto* factors = std::get_if<LowRankFactors>(&layer.factors);
  const bool is_plain = factors != nullptr && !factors->mid.defined() && layer.scale == 1.0 &&
                        factors->down.scalar_type() == dtype &&
                        factors->up.scalar_type() == dtype &&
                        factors->down.dim() == static_cast<int64_t>(layer.weight_shape.size());
  return is_plain ? layer : plain_layer(layer.matrices(), layer.weight_shape, dtype);
}

LoraMatrices side_by_side(const std::vector<LoraMatrices>& parts) {
  std::vector<Tensor> downs, ups;
  for (const LoraMatrices& part : parts) {
    downs.push_back(part.down);
    ups.push_back(part.up);
  }
  return {.down = at::cat(downs, 0), .up = at::cat(ups, 1)};
}

LoraMatrices truncated(const LoraMatrices& matrices, int64_t rank) {
  if (matrices.down.size(0) <= rank) return matrices;
  const auto [up_basis, up_rest] = at::linalg_qr(matrices.up);
  const auto [down_basis, down_rest] = at::linalg_qr(matrices.down.t());
  const auto [left, values, right] = at::linalg_svd(at::matmul(up_rest, down_rest.t()), false);
  const int64_t kept = std::min(rank, values.size(0));
  const Tensor roots = values.narrow(0, 0, kept).sqrt();
  return {.down = at::matmul(roots.unsqueeze(1) * right.narrow(0, 0, kept), down_basis.t()),
          .up = at::matmul(up_basis, left.narrow(1, 0, kept) * roots)};
}

Tensor row_space(const Tensor& down) {
  const auto [basis, rest] = at::linalg_qr(down.t());
  const auto [left, values, right] = at::linalg_svd(rest, false);
  constexpr double kRounding = 1e-6;  // against the largest: float32 has seven digits
  const Tensor limit = values.max() * kRounding;
  const int64_t rank = values.gt(limit).sum().item<int64_t>();
  return at::matmul(basis, left.narrow(1, 0, rank));
}

Tensor projected_off(const Tensor& down, const Tensor& basis, const Tensor& share) {
  return down - share * at::matmul(at::matmul(down, basis), basis.t());
}

double inner_product(const LoraMatrices& a, const LoraMatrices& b) {
  const auto gram = [](const Tensor& x, const Tensor& y) {
    return at::matmul(x, y).to(at::kDouble);
  };
  return (gram(a.up.t(), b.up) * gram(a.down, b.down.t())).sum().item<double>();
}

}  // namespace molar
