#include "molar/adapters/low_rank.h"

#include "lora_fixtures.h"

namespace molar {
namespace {

using test::noise;

constexpr Tolerance kRounding{.atol = 1e-5, .rtol = 1e-5};

LoraMatrices matrices(int64_t out, int64_t in, int64_t rank, uint64_t seed) {
  return {.down = noise({rank, in}, seed), .up = noise({out, rank}, seed + 1)};
}
Tensor delta(const LoraMatrices& m) { return m.up.matmul(m.down); }

TEST(Truncated, IsTheBestApproximationOfItsRank) {
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{12, 9}, {5, 20}, {4, 4}}) {
    const LoraMatrices whole = matrices(out, in, 6, 1);
    const auto [left, values, right] = at::linalg_svd(delta(whole), false);
    for (const int64_t rank : {1, 3}) {
      const LoraMatrices part = truncated(whole, rank);
      EXPECT_EQ(part.down.sizes(), (std::vector<int64_t>{rank, in}));
      EXPECT_EQ(part.up.sizes(), (std::vector<int64_t>{out, rank}));
      const Tensor best =
          (left.narrow(1, 0, rank) * values.narrow(0, 0, rank)).matmul(right.narrow(0, 0, rank));
      EXPECT_TRUE(is_close(delta(part), best, kRounding)) << out << " x " << in << ", " << rank;
    }
  }
}

TEST(Truncated, LeavesLowerRanksAlone) {
  const LoraMatrices whole = matrices(8, 8, 3, 5);
  EXPECT_TRUE(truncated(whole, 3).down.is_same(whole.down));
  EXPECT_TRUE(
      is_close(delta(truncated(matrices(4, 4, 6, 5), 5)), delta(matrices(4, 4, 6, 5)), kRounding))
      << "more ranks than rows";
}

TEST(RowSpace, SpansTheRowsAndNothingElse) {
  const Tensor down = noise({3, 10}, 1);
  const Tensor basis = row_space(down);
  EXPECT_EQ(basis.sizes(), (std::vector<int64_t>{10, 3}));
  EXPECT_TRUE(is_close(basis.t().matmul(basis), torch::eye(3), kRounding));
  EXPECT_TRUE(is_close(down.matmul(basis).matmul(basis.t()), down, kRounding));
}

TEST(RowSpace, OfDependentRowsIsSmaller) {
  const Tensor one = noise({1, 10}, 1);
  EXPECT_EQ(row_space(torch::cat({one, 2 * one, torch::zeros({1, 10})})).size(1), 1);
  EXPECT_EQ(row_space(torch::zeros({2, 10})).size(1), 0);
}

TEST(InnerProduct, IsThatOfTheWholeChanges) {
  const LoraMatrices a = matrices(7, 9, 2, 1), b = matrices(7, 9, 4, 3);
  EXPECT_NEAR(inner_product(a, b), (delta(a) * delta(b)).sum().item<double>(), 1e-4);
  EXPECT_NEAR(inner_product(a, a), delta(a).square().sum().item<double>(), 1e-4);
}

TEST(PlainLayer, HoldsTheMatricesInTheLayersShape) {
  const LoraMatrices m = matrices(6, 4 * 9, 2, 1);
  const LoraLayer layer = plain_layer(m, {6, 4, 3, 3});
  EXPECT_TRUE(is_close(layer.delta(), delta(m).view({6, 4, 3, 3}), kRounding));
  const LoraLayer half = plain_layer(m, {6, 36}, at::kHalf);
  EXPECT_EQ(std::get<LowRankFactors>(half.factors).down.scalar_type(), at::kHalf);
}

TEST(AsPlainLayer, SharesWhatIsPlainAlready) {
  const LoraLayer plain = plain_layer(matrices(6, 9, 2, 1), {6, 9});
  const auto down = [](const LoraLayer& layer) {
    return std::get<LowRankFactors>(layer.factors).down;
  };
  EXPECT_TRUE(down(as_plain_layer(plain, at::kFloat)).is_same(down(plain)));
  EXPECT_EQ(down(as_plain_layer(plain, at::kHalf)).scalar_type(), at::kHalf);
  LoraLayer scaled = plain;
  scaled.scale = 0.5;
  const LoraLayer sum{.factors = LoraSum{{plain, scaled}}, .weight_shape = {6, 9}};
  for (const LoraLayer& layer : {scaled, sum}) {
    const LoraLayer found = as_plain_layer(layer, at::kFloat);
    EXPECT_EQ(found.scale, 1.0);
    EXPECT_TRUE(is_close(found.delta(), layer.delta(), kRounding));
  }
}

}  // namespace
}  // namespace molar
