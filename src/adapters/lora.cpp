#include "molar/adapters/lora.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "molar/core/error.h"

namespace molar {
namespace {

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

/// Factors are stored in half precision as often as not; products are float32.
Tensor as_float(const Tensor& factor) { return factor.to(at::kFloat); }

/// [n, ...] -> [n, everything else].
Tensor as_rows(const Tensor& factor) { return as_float(factor).reshape({factor.size(0), -1}); }

/// at::kron views its result by the strides of its arguments; these must be contiguous.
Tensor kronecker_product(const Tensor& a, const Tensor& b) {
  return at::kron(a.contiguous(), b.contiguous());
}

/// The CP form of LyCORIS: core [i, j, kh, kw], rows [i, p], columns [j, r] -> [p, r, kh, kw].
Tensor cp_product(const Tensor& core, const Tensor& rows, const Tensor& columns) {
  return at::einsum("ijkl,jr,ip->prkl", {as_float(core), as_float(columns), as_float(rows)});
}

/// down and up as matrices, without the scale. A middle factor goes into down:
///   delta[o, i, k, l] = sum_mn up[o, m] mid[m, n, k, l] down[n, i].
LoraMatrices low_rank_matrices(const LowRankFactors& factors) {
  const Tensor up = as_rows(factors.up);
  const Tensor down = as_rows(factors.down);
  if (!factors.mid.defined()) return {down, up};
  const Tensor joined = at::einsum("mnkl,ni->mikl", {as_float(factors.mid), down});
  return {joined.reshape({joined.size(0), -1}), up};
}

/// One of LoHa's two products, [out, in*kh*kw] or [out, in, kh, kw].
Tensor hadamard_side(const Tensor& a, const Tensor& b, const Tensor& core) {
  return core.defined() ? cp_product(core, a, b) : at::matmul(as_float(a), as_float(b));
}

Tensor kronecker_first(const KroneckerFactors& f) {
  return f.w1.defined() ? as_float(f.w1) : at::matmul(as_float(f.w1_a), as_float(f.w1_b));
}

/// [c, d] or [c, d, kh, kw].
Tensor kronecker_second(const KroneckerFactors& f, at::IntArrayRef weight_shape) {
  if (f.w2.defined()) return as_float(f.w2);
  if (f.t2.defined()) return cp_product(f.t2, f.w2_a, f.w2_b);
  const Tensor product = at::matmul(as_float(f.w2_a), as_rows(f.w2_b));
  if (weight_shape.size() == 2) return product;
  return product.reshape({product.size(0), -1, weight_shape[2], weight_shape[3]});
}

/// The change without the scale, [weight_shape].
Tensor unscaled_delta(const LoraLayer& layer) {
  const auto& shape = layer.weight_shape;
  return std::visit(
      Overloaded{
          [&](const LowRankFactors& f) {
            const LoraMatrices m = low_rank_matrices(f);
            return at::matmul(m.up, m.down).reshape(shape);
          },
          [&](const HadamardFactors& f) {
            return (hadamard_side(f.w1_a, f.w1_b, f.t1) * hadamard_side(f.w2_a, f.w2_b, f.t2))
                .reshape(shape);
          },
          [&](const KroneckerFactors& f) {
            const Tensor second = kronecker_second(f, shape);
            Tensor first = kronecker_first(f);
            while (first.dim() < second.dim()) first = first.unsqueeze(-1);
            return kronecker_product(first, second).reshape(shape);
          },
          [&](const LoraSum& sum) {
            Tensor total = at::zeros(shape, at::kFloat);
            for (const LoraLayer& term : sum.terms) term.add_delta_to_(total, 1.0);
            return total;
          },
      },
      layer.factors);
}

/// Both products of LoHa as one: row (p, q) of the result pairs row p of the first with row q of
/// the second.
///   ((A1 B1) * (A2 B2))[o, i] = sum_pq (A1[o, p] A2[o, q]) (B1[p, i] B2[q, i])
LoraMatrices hadamard_matrices(const HadamardFactors& f) {
  const Tensor a1 = as_float(f.w1_a), a2 = as_float(f.w2_a);
  const Tensor b1 = as_float(f.w1_b), b2 = as_float(f.w2_b);
  return {.down = (b1.unsqueeze(1) * b2.unsqueeze(0)).flatten(0, 1),
          .up = (a1.unsqueeze(2) * a2.unsqueeze(1)).flatten(1, 2)};
}

/// kron(W1, A2 B2) = kron(W1, A2) @ kron(I, B2).
LoraMatrices kronecker_matrices(const KroneckerFactors& f) {
  const Tensor first = kronecker_first(f);
  return {.down = kronecker_product(at::eye(first.size(1), at::kFloat), as_rows(f.w2_b)),
          .up = kronecker_product(first, as_float(f.w2_a))};
}

/// The change itself beside an identity: factors of a change that has no cheaper ones.
LoraMatrices dense_matrices(const LoraLayer& layer) {
  const Tensor change = unscaled_delta(layer).flatten(1);
  const int64_t rows = change.size(0), columns = change.size(1);
  if (rows <= columns) return {.down = change, .up = at::eye(rows, at::kFloat)};
  return {.down = at::eye(columns, at::kFloat), .up = change};
}

/// The rank of the exact factors of LoHa and LoKr; nullopt where the CP form or a whole W2 leaves
/// none.
std::optional<int64_t> factored_rank(const HadamardFactors& f) {
  if (f.t1.defined()) return std::nullopt;
  return f.w1_b.size(0) * f.w2_b.size(0);
}
std::optional<int64_t> factored_rank(const KroneckerFactors& f) {
  if (!f.w2_a.defined() || f.t2.defined()) return std::nullopt;
  return (f.w1.defined() ? f.w1 : f.w1_b).size(1) * f.w2_a.size(1);
}

LoraMatrices unscaled_matrices(const LoraLayer& layer) {
  const int64_t inputs = c10::multiply_integers(layer.weight_shape) / layer.weight_shape.front();
  const int64_t full_rank = std::min(layer.weight_shape.front(), inputs);
  const auto is_cheap = [&](const auto& factors) {
    return factored_rank(factors).value_or(full_rank) < full_rank;
  };
  return std::visit(Overloaded{
                        [](const LowRankFactors& f) { return low_rank_matrices(f); },
                        [&](const HadamardFactors& f) {
                          return is_cheap(f) ? hadamard_matrices(f) : dense_matrices(layer);
                        },
                        [&](const KroneckerFactors& f) {
                          return is_cheap(f) ? kronecker_matrices(f) : dense_matrices(layer);
                        },
                        [](const LoraSum& sum) {
                          std::vector<Tensor> downs, ups;
                          for (const LoraLayer& term : sum.terms) {
                            const LoraMatrices matrices = term.matrices();
                            downs.push_back(matrices.down);
                            ups.push_back(matrices.up);
                          }
                          return LoraMatrices{.down = at::cat(downs, 0), .up = at::cat(ups, 1)};
                        },
                    },
                    layer.factors);
}

/// [out, in*kh*kw] in the order of the weight's memory, sharing it.
Tensor as_matrix_in_place(const Tensor& weight) {
  if (weight.is_contiguous()) return weight.view({weight.size(0), -1});
  return weight.permute({0, 2, 3, 1}).view({weight.size(0), -1});
}

/// Columns of `down` [r, in*kh*kw] in the order of the weight's memory.
Tensor columns_as_in(const Tensor& weight, const Tensor& down) {
  if (weight.is_contiguous()) return down;
  return down.reshape({down.size(0), weight.size(1), -1})
      .transpose(1, 2)
      .reshape({down.size(0), -1});
}

}  // namespace

int64_t LoraLayer::rank() const {
  return std::visit(Overloaded{
                        [](const LowRankFactors& f) { return f.down.size(0); },
                        [](const HadamardFactors& f) { return f.w1_b.size(0); },
                        [&](const KroneckerFactors& f) {
                          if (f.w2_b.defined()) return f.w2_b.size(0);
                          if (f.w1_b.defined()) return f.w1_b.size(0);
                          return std::min(f.w1.size(0) * f.w2.size(0), f.w1.size(1) * f.w2.size(1));
                        },
                        [](const LoraSum& sum) {
                          int64_t total = 0;
                          for (const LoraLayer& term : sum.terms) total += term.rank();
                          return total;
                        },
                    },
                    factors);
}

Tensor LoraLayer::delta() const { return unscaled_delta(*this).mul_(scale); }

void LoraLayer::add_delta_to_(const Tensor& weight, double strength) const {
  if (weight.sizes() != at::IntArrayRef(weight_shape) || weight.scalar_type() != at::kFloat)
    throw Error(fmt::format("internal: a change of {} cannot be added to a weight of {} {}",
                            shape_string(weight_shape), dtype_name(weight.scalar_type()),
                            shape_string(weight.sizes())));
  const double factor = scale * strength;
  if (const auto* const low_rank = std::get_if<LowRankFactors>(&factors)) {
    const LoraMatrices matrices = low_rank_matrices(*low_rank);
    as_matrix_in_place(weight).addmm_(matrices.up.to(weight.device()),
                                      columns_as_in(weight, matrices.down).to(weight.device()),
                                      /*beta=*/1, /*alpha=*/factor);
  } else if (const auto* const sum = std::get_if<LoraSum>(&factors)) {
    for (const LoraLayer& term : sum->terms) term.add_delta_to_(weight, factor);
  } else {
    weight.add_(unscaled_delta(*this).to(weight.device()), /*alpha=*/factor);
  }
}

LoraMatrices LoraLayer::matrices() const {
  const LoraMatrices unscaled = unscaled_matrices(*this);
  return {.down = scale == 1 ? unscaled.down : unscaled.down * scale, .up = unscaled.up};
}

std::vector<Tensor> LoraLayer::tensors() const {
  std::vector<Tensor> all = std::visit(
      Overloaded{
          [](const LowRankFactors& f) { return std::vector<Tensor>{f.down, f.up, f.mid}; },
          [](const HadamardFactors& f) {
            return std::vector<Tensor>{f.w1_a, f.w1_b, f.w2_a, f.w2_b, f.t1, f.t2};
          },
          [](const KroneckerFactors& f) {
            return std::vector<Tensor>{f.w1, f.w1_a, f.w1_b, f.w2, f.w2_a, f.w2_b, f.t2};
          },
          [](const LoraSum& sum) {
            std::vector<Tensor> joined;
            for (const LoraLayer& term : sum.terms)
              for (const Tensor& tensor : term.tensors()) joined.push_back(tensor);
            return joined;
          },
      },
      factors);
  std::erase_if(all, [](const Tensor& tensor) { return !tensor.defined(); });
  return all;
}

int64_t LoraWeights::num_layers(const std::string& component) const {
  return std::count_if(layers.begin(), layers.end(),
                       [&](const auto& entry) { return entry.first.component == component; });
}

}  // namespace molar
