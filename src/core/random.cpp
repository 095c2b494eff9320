#include "molar/core/random.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <random>

namespace molar {
namespace {

at::TensorOptions on_cpu(at::ScalarType dtype) {
  return at::TensorOptions().dtype(dtype).device(at::kCPU);
}

uint64_t split_mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

}  // namespace

RandomSource::RandomSource(uint64_t seed)
    : seed_(seed), generator_(at::detail::createCPUGenerator(seed)) {}

at::Tensor RandomSource::randn(at::IntArrayRef shape) {
  return at::randn(shape, generator_, on_cpu(at::kFloat));
}

at::Tensor RandomSource::uniform(at::IntArrayRef shape, double low, double high) {
  return at::empty(shape, on_cpu(at::kFloat)).uniform_(low, high, generator_);
}

at::Tensor RandomSource::randint(int64_t high, at::IntArrayRef shape) {
  return at::randint(high, shape, generator_, on_cpu(at::kLong));
}

at::Tensor RandomSource::permutation(int64_t count) {
  return at::randperm(count, generator_, on_cpu(at::kLong));
}

uint64_t derived_seed(uint64_t seed, uint64_t stream, uint64_t index) {
  return split_mix(split_mix(split_mix(seed) ^ stream) ^ index) & 0xFFFFFFFF;
}

uint64_t random_seed() { return std::random_device{}(); }

}  // namespace molar
