/// float32 on the CPU through oneDNN, for inference.
///
/// ATen multiplies float32 matrices with MKL, which on AMD processors runs at less than half the
/// speed of oneDNN, and it has oneDNN rearrange a convolution's weight anew in every call. The
/// operators used here are the ones torch.compile calls; they have no derivative. Where libtorch
/// lacks them, or autograd records, or the type or device is another, the callers use ATen's own
/// functions.
#pragma once

#include <ATen/core/Tensor.h>

#include "molar/core/tensor.h"

namespace molar {

/// Whether the functions below may be used on `x`: float32, on the CPU, and nothing is being
/// recorded.
bool cpu_kernels_apply(const Tensor& x);

/// x: [..., in]; weight: [out, in]; bias: [out] or undefined. Returns [..., out].
Tensor cpu_linear(const Tensor& x, const Tensor& weight, const Tensor& bias);

/// y + x weight^T, written into y. x: [..., in]; weight: [out, in]; y: [..., out], contiguous.
Tensor cpu_add_linear(const Tensor& y, const Tensor& x, const Tensor& weight);

/// A convolution's weight in the order in which oneDNN reads it: same values, opaque layout.
Tensor cpu_pack_convolution_weight(const Tensor& weight);
/// The way back, bit for bit: [out, in, kh, kw], contiguous.
Tensor cpu_unpack_convolution_weight(const Tensor& packed);
/// x: [B, in, H, W]; stride and padding alike in both directions. Returns channels-last [B, out,
/// H', W'].
Tensor cpu_convolution(const Tensor& x, const Tensor& packed_weight, const Tensor& bias,
                       int64_t stride, int64_t padding);

/// softmax(q k^T / sqrt(dim_head)) v. q: [B, L, heads * dim_head]; k, v: [B, S, heads * dim_head].
/// Returns [B, L, heads * dim_head].
Tensor cpu_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads);

}  // namespace molar
