#include "molar/core/random.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <random>

namespace molar {

RandomSource::RandomSource(uint64_t seed)
    : seed_(seed), generator_(at::detail::createCPUGenerator(seed)) {}

at::Tensor RandomSource::randn(at::IntArrayRef shape) {
  return at::randn(shape, generator_, at::TensorOptions().dtype(at::kFloat).device(at::kCPU));
}

uint64_t random_seed() { return std::random_device{}(); }

}  // namespace molar
