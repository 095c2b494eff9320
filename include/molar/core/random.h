/// Seeded randomness: the same seed gives the same numbers on every device.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace molar {

/// A source of random numbers: what torch.Generator("cpu").manual_seed(seed) draws.
/// torch uses the low 32 bits of the seed. Pictures have one source each, never one for a batch: a
/// batched draw equals single draws only if the element count is a multiple of 16.
class RandomSource {
 public:
  explicit RandomSource(uint64_t seed);

  /// Standard normal, float32 on the CPU; cast and move afterwards.
  at::Tensor randn(at::IntArrayRef shape);
  /// torch.empty(shape).uniform_(low, high): in [low, high), float32 on the CPU.
  at::Tensor uniform(at::IntArrayRef shape, double low, double high);
  /// torch.randint(high, shape): in [0, high), int64 on the CPU.
  at::Tensor randint(int64_t high, at::IntArrayRef shape);
  /// torch.randperm(count): int64 [count] on the CPU.
  at::Tensor permutation(int64_t count);

  uint64_t seed() const { return seed_; }

 private:
  uint64_t seed_;
  at::Generator generator_;
};

/// The seed of draw number `index` of one of a run's `stream`s, in [0, 2^32). A run that draws each
/// part of its randomness from a source of its own can start anywhere without replaying what came
/// before.  mix(mix(mix(seed) ^ stream) ^ index), low 32 bits, with the mix of SplitMix64 (Steele
/// et al. 2014, doi:10.1145/2660193.2660195).
uint64_t derived_seed(uint64_t seed, uint64_t stream, uint64_t index);

/// A seed nobody chose, in [0, 2^32): from the operating system's entropy.
uint64_t random_seed();

}  // namespace molar
