/// How fast a device really computes in a number type.
#pragma once

#include "molar/core/tensor.h"

namespace molar {

/// 10^9 floating-point operations a second in products of two square matrices: the fastest of
/// several, as other work on the machine only ever slows one down. A quarter of a second, longer
/// where the type is emulated. Throws what libtorch throws
/// where the device has no such product.
double matmul_gflops(at::Device device, at::ScalarType dtype);

}  // namespace molar
