#include "molar/core/random.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

namespace molar {
namespace {

// torch.randn(n, generator=torch.Generator("cpu").manual_seed(seed)) of PyTorch 2.13. The vector
// path (16 numbers and more) and the scalar path differ; 4e-7 covers the instruction sets (AVX2,
// AVX-512).
TEST(RandomSource, DrawsWhatPyTorchDraws) {
  RandomSource vector_path(0);
  const at::Tensor many = vector_path.randn({16});
  const float first_of_many[] = {-1.1258398f, -1.1523602f, -0.25057858f, -0.4338788f};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(many[i].item<float>(), first_of_many[i], 4e-7);
  RandomSource scalar_path(0);
  const at::Tensor few = scalar_path.randn({4});
  const float all_few[] = {1.5409961f, -0.2934289f, -2.1787894f, 0.56843126f};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(few[i].item<float>(), all_few[i], 4e-7);
}

TEST(RandomSource, GoesOnWhereTheLastDrawEnded) {
  RandomSource source(7), again(7);
  const at::Tensor first = source.randn({1, 4, 8, 8}), second = source.randn({1, 4, 8, 8});
  EXPECT_FALSE(at::equal(first, second));
  EXPECT_TRUE(at::equal(again.randn({1, 4, 8, 8}), first));
  EXPECT_TRUE(at::equal(again.randn({1, 4, 8, 8}), second));
}

TEST(RandomSource, UsesTheLow32BitsOfTheSeedAsPyTorchDoes) {
  RandomSource low(5), high(5 + (uint64_t{1} << 32));
  EXPECT_TRUE(at::equal(low.randn({16}), high.randn({16})));
  EXPECT_EQ(high.seed(), 5 + (uint64_t{1} << 32));
}

TEST(RandomSource, DoesNotTouchTheGlobalGenerator) {
  at::manual_seed(1);
  const at::Tensor expected = at::randn({16});
  at::manual_seed(1);
  RandomSource(3).randn({16});
  EXPECT_TRUE(at::equal(at::randn({16}), expected));
}

// The same calls with torch.Generator("cpu").manual_seed(0) in PyTorch 2.13.
TEST(RandomSource, DrawsUniformNumbersIntegersAndOrdersAsPyTorchDoes) {
  const float uniform[] = {-0.0074868f, 0.5364436f, -0.8230451f};
  const at::Tensor numbers = RandomSource(0).uniform({3}, -1, 1);
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(numbers[i].item<float>(), uniform[i], 1e-6);
  const int64_t integers[] = {44, 239, 933}, order[] = {4, 0, 1, 3, 2};
  const at::Tensor drawn = RandomSource(0).randint(1000, {3});
  const at::Tensor permutation = RandomSource(0).permutation(5);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(drawn[i].item<int64_t>(), integers[i]);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(permutation[i].item<int64_t>(), order[i]);
}

// From the formula in random.h, worked out with Python's integers.
TEST(DerivedSeed, IsTheDocumentedMix) {
  EXPECT_EQ(derived_seed(0, 0, 0), 956087953U);
  EXPECT_EQ(derived_seed(7, 3, 12), 3672457351U);
  std::set<uint64_t> seeds;
  for (uint64_t stream = 0; stream < 4; ++stream)
    for (uint64_t index = 0; index < 100; ++index) seeds.insert(derived_seed(1, stream, index));
  EXPECT_EQ(seeds.size(), 400U);
}

TEST(RandomSeed, FitsPyTorchAndDiffersFromCallToCall) {
  std::set<uint64_t> seeds;
  for (int i = 0; i < 8; ++i) seeds.insert(random_seed());
  EXPECT_LT(*seeds.rbegin(), uint64_t{1} << 32);
  EXPECT_GT(seeds.size(), 6U);  // two equal pairs among eight: once in 10^17 runs
}

}  // namespace
}  // namespace molar
