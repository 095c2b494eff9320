#include "molar/core/matmul_speed.h"

#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <chrono>

#include "molar/core/device.h"

namespace molar {
namespace {

using Clock = std::chrono::steady_clock;

// Large enough to be bound by arithmetic, as the UNet's products are; a GPU wants more of it.
constexpr int64_t kSide = 512, kGpuSide = 4096;
constexpr int kLeast = 3, kMost = 100;
constexpr double kBudget_s = 0.25;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

double matmul_gflops(at::Device device, at::ScalarType dtype) {
  const int64_t side = device.is_cuda() ? kGpuSide : kSide;
  const Tensor matrix =
      at::full({side, side}, 0.5, at::TensorOptions().device(device).dtype(dtype));
  const auto multiply = [&] {
    const auto start = Clock::now();
    at::mm(matrix, matrix);
    wait_for(device);
    return seconds_since(start);
  };
  multiply();  // chooses and loads its kernels
  double best_s = multiply();
  const auto start = Clock::now();
  for (int i = 1; i < kLeast || (i < kMost && seconds_since(start) < kBudget_s); ++i)
    best_s = std::min(best_s, multiply());
  const auto n = static_cast<double>(side);
  return 2 * n * n * n / best_s / 1e9;
}

}  // namespace molar
