#include "molar/core/matmul_speed.h"

#include <gtest/gtest.h>

#include <cmath>

namespace molar {
namespace {

TEST(MatmulSpeed, IsAPlausibleRateOfThisMachine) {
  const double gflops = matmul_gflops(at::kCPU, at::kFloat);
  EXPECT_TRUE(std::isfinite(gflops));
  EXPECT_GT(gflops, 0.01);
  EXPECT_LT(gflops, 1e5) << "no processor has this";
}

}  // namespace
}  // namespace molar
