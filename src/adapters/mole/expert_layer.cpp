#include "molar/adapters/mole/expert_layer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "gate_kernel.h"
#include "molar/models/functional.h"

namespace molar {
namespace {

/// [B, C, H, W] -> [B, H * W, C], [B, C] -> [B, 1, C]; tokens stay as they are.
Tensor as_tokens(const Tensor& x) {
  if (x.dim() == 4) return x.permute({0, 2, 3, 1}).flatten(1, 2);
  return x.dim() == 2 ? x.unsqueeze(1) : x;
}

/// The way back, to the form of `like`.
Tensor in_form_of(const Tensor& tokens, const Tensor& like) {
  if (like.dim() == 4)
    return tokens.unflatten(1, {like.size(2), like.size(3)}).permute({0, 3, 1, 2});
  return like.dim() == 2 ? tokens.squeeze(1) : tokens;
}

/// The whole change costs less than its factors.
bool is_cheaper_whole(int64_t rank, int64_t in, int64_t out) {
  return rank * (in + out) > in * out;
}

/// [E, in, r]-shaped views of the stacked factors need one rank: zeros at the end of `dim`.
Tensor padded(const Tensor& factor, int64_t dim, int64_t rank) {
  const int64_t missing = rank - factor.size(dim);
  if (missing == 0) return factor;
  std::vector<int64_t> shape = factor.sizes().vec();
  shape[static_cast<size_t>(dim)] = missing;
  return at::cat({factor, at::zeros(shape, factor.options())}, dim);
}

/// As cpu_gates has it, anywhere, recorded where autograd records.
GatedTokens gates(const Tensor& logits, const Tensor& bias, const ExpertMask& mask) {
  if (gate_kernel_applies(logits)) return cpu_gates(logits, bias, mask);
  const auto parts = logits.to(at::kFloat).chunk(2, -1), biases = bias.chunk(2);
  const GateValues values{.local = at::sigmoid(parts[0] + biases[0]),
                          .global = at::sigmoid(parts[1].mean(1) + biases[1])};
  Tensor weights = values.local * values.global.unsqueeze(1);
  if (mask.weights.defined()) weights = weights * mask.weights;
  if (mask.active.defined()) weights = weights.index_select(1, mask.active);
  return {.values = values, .weights = weights.to(logits.scalar_type())};
}

/// |x| over all but the first dimension, float32: [B, 1, 1].
Tensor row_norm(const Tensor& x) {
  return at::linalg_vector_norm(x, 2, at::IntArrayRef({1, 2}), /*keepdim=*/true, at::kFloat);
}

}  // namespace

ExpertMask::ExpertMask(const Tensor& weights_of_tokens)
    : weights(weights_of_tokens.to(at::kFloat).contiguous()) {
  constexpr double kWorthIt = 0.75;  // of all tokens: gathering them costs a pass over x and y
  const Tensor found = weights.ne(0).any(/*dim=*/1).nonzero().flatten();
  if (static_cast<double>(found.size(0)) < kWorthIt * static_cast<double>(weights.size(0)))
    active = found;
}

StackedExperts stack_experts(const std::vector<LoraMatrices>& factors) {
  const int64_t in = factors.front().down.size(1), out = factors.front().up.size(0);
  int64_t rank = 0;
  for (const LoraMatrices& one : factors) rank = std::max(rank, one.down.size(0));
  StackedExperts stacked{.down = {}, .up = {}, .num_experts = static_cast<int64_t>(factors.size())};
  std::vector<Tensor> downs, ups;
  const bool whole = is_cheaper_whole(rank, in, out);
  for (const LoraMatrices& one : factors) {
    if (!whole) downs.push_back(padded(one.down, 0, rank));
    ups.push_back(whole ? at::matmul(one.up, one.down) : padded(one.up, 1, rank));
  }
  if (!whole) stacked.down = at::cat(downs);
  stacked.up = at::cat(ups, /*dim=*/1);
  return stacked;
}

GateRows gate_rows(const StackedExperts& experts, const LayerGates& gates) {
  const int64_t count = experts.num_experts;
  const Tensor up = experts.up.unflatten(1, {count, -1});              // [out, E, r]
  Tensor omega = at::einsum("eo,oer->er", {gates.global_weight, up});  // [E, r]
  if (experts.down.defined())
    omega = at::bmm(omega.unsqueeze(1), experts.down.unflatten(0, {count, -1})).squeeze(1);
  return {.weight = at::cat({gates.local_weight, omega}),
          .bias = at::cat({gates.local_bias, gates.global_bias})};
}

ExpertLayer::ExpertLayer(const StackedExperts& experts, const GateRows& rows,
                         const std::vector<double>& strengths)
    : num_experts_(experts.num_experts), rows_(rows.weight), bias_(rows.bias), up_(experts.up) {
  if (experts.down.defined()) {
    inner_width_ = experts.down.size(0);
    rows_ = at::cat({experts.down, rows.weight});
  }
  if (std::ranges::all_of(strengths, [](double strength) { return strength == 1.0; })) return;
  const Tensor factors = at::tensor(at::ArrayRef<double>(strengths)).to(up_.options());
  up_ = (up_.unflatten(1, {num_experts_, -1}) * factors.unsqueeze(1)).flatten(1);
}

ExpertLayer ExpertLayer::to(at::Device device, at::ScalarType dtype) const {
  ExpertLayer moved = *this;
  moved.rows_ = rows_.to(device, dtype);
  moved.up_ = up_.to(device, dtype);
  moved.bias_ = bias_.to(device);
  return moved;
}

// Returns [B, n, rows].
Tensor ExpertLayer::project(const AdaptableLayer& layer, const Tensor& x,
                            const Tensor& rows) const {
  const bool is_convolution = layer.weight().dim() == 4;
  return as_tokens(layer.project(x, is_convolution ? rows.unsqueeze(-1).unsqueeze(-1) : rows));
}

Tensor ExpertLayer::forward(const AdaptableLayer& layer, const Tensor& x, const Tensor& y,
                            const ExpertLimits& limits, GateValues* values) const {
  const Tensor& active = limits.mask.active;
  const int64_t gate_rows = 2 * num_experts_;
  // All tokens: one product gives inner values and gates. Some: the gates need all tokens still.
  const Tensor products =
      project(layer, x, active.defined() ? rows_.narrow(0, inner_width_, gate_rows) : rows_);
  const auto [gate_values, weights] =
      gates(products.narrow(-1, products.size(-1) - gate_rows, gate_rows), bias_, limits.mask);
  if (values != nullptr) *values = gate_values;
  if (active.defined() && active.size(0) == 0) return y;

  Tensor inner;  // [B, n, E, r], or [B, n, 1, in] where they are x
  if (active.defined()) {
    const Tensor tokens = as_tokens(x).index_select(1, active);
    inner = inner_width_ > 0 ? fast_linear(tokens, rows_.narrow(0, 0, inner_width_)) : tokens;
  } else {
    inner = inner_width_ > 0 ? products.narrow(-1, 0, inner_width_) : as_tokens(x);
  }
  inner = inner.unflatten(-1, {inner_width_ > 0 ? num_experts_ : 1, -1});
  const Tensor weighed = (inner * weights.unsqueeze(-1)).flatten(-2);
  const Tensor own = as_tokens(y);
  if (limits.cap <= 0 && !active.defined())
    return in_form_of(add_linear_reusing(own, weighed, up_), y);
  Tensor change = fast_linear(weighed, up_);
  if (limits.cap > 0) {
    const Tensor share = (limits.cap * row_norm(own) / row_norm(change)).clamp_max(1.0);
    // 0 / 0: nothing is added to nothing.
    change = change * share.nan_to_num(1.0).to(x.scalar_type());
  }
  return in_form_of(active.defined() ? own.index_add(1, active, change) : add_reusing(own, change),
                    y);
}

}  // namespace molar
