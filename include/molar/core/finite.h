/// A quick look for numbers that are none.
#pragma once

#include "molar/core/tensor.h"

namespace molar {

/// No NaN and no infinity. On the CPU several times as fast as at::isfinite, which makes tensors of
/// its own.
bool is_finite(const Tensor& tensor);

}  // namespace molar
