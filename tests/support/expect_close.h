/// Comparison of tensors in tests: says how far apart they are and where.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>

#include "molar/core/tensor.h"

namespace molar {

struct Tolerance {
  double atol = 1e-5, rtol = 1e-4;
};

/// |actual - wanted| <= atol + rtol * |wanted| everywhere, same shape, no NaN.
inline testing::AssertionResult is_close(const Tensor& actual, const Tensor& wanted,
                                         Tolerance tolerance = {}) {
  if (!actual.defined()) return testing::AssertionFailure() << "the tensor is undefined";
  if (actual.sizes() != wanted.sizes())
    return testing::AssertionFailure() << "shape " << shape_string(actual.sizes()) << ", wanted "
                                       << shape_string(wanted.sizes());
  const Tensor a = actual.detach().to(at::kDouble), w = wanted.detach().to(at::kDouble);
  const Tensor excess = (a - w).abs() - (tolerance.atol + tolerance.rtol * w.abs());
  // "not <=" instead of ">": NaN must fail.
  const int64_t wrong = (excess <= 0).logical_not().sum().item<int64_t>();
  if (wrong == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << wrong << " of " << a.numel() << " values differ; the largest difference is "
         << (a - w).abs().max().item<double>() << ", the largest wanted value "
         << w.abs().max().item<double>();
}

}  // namespace molar
