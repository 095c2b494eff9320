/// Algebra on the factors of a layer's change, delta W = up @ down, that never forms delta W.
#pragma once

#include <vector>

#include "molar/adapters/lora.h"

namespace molar {

/// A layer of plain factors in `dtype`, scale 1. down: [r, in*kh*kw], up: [out, r].
LoraLayer plain_layer(const LoraMatrices& matrices, std::vector<int64_t> weight_shape,
                      at::ScalarType dtype = at::kFloat);
/// The sum of several changes, their factors side by side.
LoraLayer plain_layer(const std::vector<LoraMatrices>& parts, std::vector<int64_t> weight_shape,
                      at::ScalarType dtype = at::kFloat);

/// The same change as a plain layer of `dtype`; the layer itself where it is one.
LoraLayer as_plain_layer(const LoraLayer& layer, at::ScalarType dtype);

/// [up_1 ... up_n] and [down_1; ...; down_n]: the sum of the changes, its rank the sum of theirs.
LoraMatrices side_by_side(const std::vector<LoraMatrices>& parts);

/// The best change of rank `rank` in the Frobenius norm (Eckart and Young 1936): the singular value
/// decomposition of the small matrix between two orthonormal bases, from QR of both factors. The
/// singular values are shared evenly. Factors of lower rank are returned as they are.
LoraMatrices truncated(const LoraMatrices& matrices, int64_t rank);

/// Orthonormal columns that span the rows of `down` [r, n]: [n, k], k its rank up to rounding.
Tensor row_space(const Tensor& down);

/// down (I - share Q Q^T) for Q [n, k] with orthonormal columns: `share`, a scalar, of what lies in
/// the space that they span leaves.
Tensor projected_off(const Tensor& down, const Tensor& basis, const Tensor& share);

/// <delta W_a, delta W_b> = trace((up_a^T up_b)(down_b down_a^T)), in double precision.
double inner_product(const LoraMatrices& a, const LoraMatrices& b);

}  // namespace molar
