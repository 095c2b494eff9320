/// What layers and adapters compute with, by the fastest kernels that apply.
#pragma once

#include "molar/core/tensor.h"

namespace molar {

/// x weight^T + bias. x: [..., in]; weight: [out, in]; bias: [out] or undefined. Returns [...,
/// out].
Tensor fast_linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
/// y + x weight^T, [..., out], in one pass over y, written into y's memory where autograd allows
/// and it is contiguous. Only for a y that nobody else reads.
Tensor add_linear_reusing(const Tensor& y, const Tensor& x, const Tensor& weight);
/// x + y, written into x's memory where autograd allows. Only for an x that nobody else reads.
Tensor add_reusing(const Tensor& x, const Tensor& y);
/// x * y, written into x's memory where autograd allows. Only for an x that nobody else reads.
Tensor mul_reusing(const Tensor& x, const Tensor& y);
/// gelu(x) (exact, not the tanh form), written into x's memory likewise where it is contiguous.
Tensor gelu_reusing(const Tensor& x);
/// silu(x), written into x's memory likewise.
Tensor silu_reusing(const Tensor& x);

}  // namespace molar
