/// Seeded randomness: the same seed gives the same numbers on every device.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace molar {

/// One picture's source of noise: what torch.Generator("cpu").manual_seed(seed) draws.
/// torch uses the low 32 bits of the seed. One source per picture, never one for a batch: a batched
/// draw equals single draws only if the element count is a multiple of 16.
class RandomSource {
 public:
  explicit RandomSource(uint64_t seed);

  /// Standard normal, float32 on the CPU; cast and move afterwards.
  at::Tensor randn(at::IntArrayRef shape);

  uint64_t seed() const { return seed_; }

 private:
  uint64_t seed_;
  at::Generator generator_;
};

/// A seed nobody chose, in [0, 2^32): from the operating system's entropy.
uint64_t random_seed();

}  // namespace molar
