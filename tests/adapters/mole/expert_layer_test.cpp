#include "molar/adapters/mole/expert_layer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <ostream>
#include <vector>

#include "molar/models/layers.h"
#include "support/expect_close.h"
#include "support/literal_mole.h"
#include "support/random_weights.h"

namespace molar {
namespace {

using test::literal_mole;
using test::LiteralMole;

struct Sizes {
  int64_t in, out;
  std::vector<int64_t> ranks;  // one expert each
};

std::ostream& operator<<(std::ostream& stream, const Sizes& sizes) {
  stream << sizes.in << " -> " << sizes.out << ", ranks";
  for (const int64_t rank : sizes.ranks) stream << " " << rank;
  return stream;
}

/// Experts and gates with values large enough that gates reach from near 0 to near 1.
struct Case {
  std::vector<LoraMatrices> factors;
  LayerGates gates;
  StackedExperts stacked;

  explicit Case(const Sizes& sizes) {
    torch::manual_seed(static_cast<uint64_t>(sizes.in + sizes.out));
    for (const int64_t rank : sizes.ranks)
      factors.push_back(
          {.down = 0.5 * at::randn({rank, sizes.in}), .up = 0.5 * at::randn({sizes.out, rank})});
    const auto count = static_cast<int64_t>(sizes.ranks.size());
    gates = {.local_weight = 0.4 * at::randn({count, sizes.in}),
             .local_bias = at::randn({count}),
             .global_weight = 0.4 * at::randn({count, sizes.out}),
             .global_bias = at::randn({count})};
    stacked = stack_experts(factors);
  }

  ExpertLayer layer(const std::vector<double>& strengths = {}) const {
    return {stacked, gate_rows(stacked, gates),
            strengths.empty() ? std::vector<double>(factors.size(), 1.0) : strengths};
  }
};

// In factors and whole, equal ranks and not, one expert and several.
const Sizes kSizes[] = {{40, 48, {4, 4}}, {40, 48, {3, 7}},    {16, 16, {12, 12}},
                        {24, 60, {2}},    {12, 10, {9, 2, 5}}, {64, 8, {3, 3}}};

TEST(ExpertLayer, IsTheLiteralFormExpertByExpert) {
  int whole = 0;
  for (const Sizes& sizes : kSizes)
    for (const bool recording : {true, false}) {
      const at::AutoGradMode mode(recording);
      const Case one(sizes);
      whole += one.stacked.down.defined() ? 0 : 1;
      Linear linear(sizes.in, sizes.out);
      randomise(*linear, 3);
      const Tensor x = at::randn({3, 35, sizes.in}), y = linear->forward(x);
      const LiteralMole wanted = literal_mole(x, y, one.factors, one.gates);
      GateValues values;
      const Tensor result = one.layer().forward(*linear, x, y.clone(), {}, &values);
      EXPECT_TRUE(is_close(values.local, wanted.local, {.atol = 1e-5, .rtol = 0})) << sizes;
      EXPECT_TRUE(is_close(values.global, wanted.global, {.atol = 1e-5, .rtol = 0})) << sizes;
      EXPECT_TRUE(is_close(result, wanted.result, {.atol = 1e-5, .rtol = 1e-5})) << sizes;
      EXPECT_GT(wanted.change.abs().mean().item<double>(), 0.1) << "the experts change something";
      EXPECT_GT((values.global.max() - values.global.min()).item<double>(), 0.1);
    }
  EXPECT_EQ(whole, 4) << "both forms of Note [Fused experts] are covered";
}

TEST(ExpertLayer, RowsOfABatchAreIndependent) {
  const Case one(kSizes[0]);
  Linear linear(40, 48);
  randomise(*linear, 3);
  const at::NoGradGuard no_grad;
  const Tensor x = at::randn({2, 7, 40}) * torch::tensor({0.2F, 3.0F}).view({2, 1, 1});
  const Tensor together = one.layer().forward(*linear, x, linear->forward(x), {});
  for (int64_t row = 0; row < 2; ++row) {
    const Tensor alone = x.narrow(0, row, 1);
    EXPECT_TRUE(is_close(one.layer().forward(*linear, alone, linear->forward(alone), {}),
                         together.narrow(0, row, 1)));
  }
}

// A 1x1 convolution gives the same on tokens and on maps in both layouts; means are over all
// positions.
TEST(ExpertLayer, ConvolutionsRunOnTokensAndOnMaps) {
  for (const Sizes& sizes : {kSizes[0], kSizes[2]}) {
    const Case one(sizes);
    Conv2d conv(
        Conv2dOptions{.in_channels = sizes.in, .out_channels = sizes.out, .kernel_size = 1});
    randomise(*conv, 5);
    const at::NoGradGuard no_grad;
    const Tensor map = in_image_layout(at::randn({2, sizes.in, 5, 3}));
    const Tensor tokens = map.permute({0, 2, 3, 1}).flatten(1, 2);
    const Tensor y = conv->forward_tokens(tokens);
    const Tensor wanted = literal_mole(tokens, y, one.factors, one.gates).result;
    const ExpertLayer experts = one.layer();
    conv->set_residual(
        [&](const Tensor& x, const Tensor& own) { return experts.forward(*conv, x, own, {}); });
    const Tensor as_map = wanted.unflatten(1, {5, 3}).permute({0, 3, 1, 2});
    EXPECT_TRUE(is_close(conv->forward_tokens(tokens), wanted));
    EXPECT_TRUE(is_close(conv->forward(map), as_map));
    EXPECT_TRUE(is_close(conv->forward(map.contiguous()), as_map));
  }
}

TEST(ExpertLayer, ALinearLayerWithoutTokensHasOneOfThem) {
  const Case one(kSizes[1]);
  Linear linear(40, 48);
  randomise(*linear, 3);
  const Tensor x = at::randn({3, 40}), y = linear->forward(x);
  const LiteralMole wanted = literal_mole(x.unsqueeze(1), y.unsqueeze(1), one.factors, one.gates);
  EXPECT_TRUE(is_close(one.layer().forward(*linear, x, y, {}), wanted.result.squeeze(1)));
}

TEST(ExpertLayer, StrengthsScaleResultsAndLeaveGatesAlone) {
  for (const Sizes& sizes : {kSizes[1], kSizes[4]}) {
    const Case one(sizes);
    std::vector<double> strengths(sizes.ranks.size(), 1.0);
    strengths[0] = -0.5;
    strengths[1] = 0;
    Linear linear(sizes.in, sizes.out);
    randomise(*linear, 3);
    const at::NoGradGuard no_grad;
    const Tensor x = at::randn({2, 6, sizes.in}), y = linear->forward(x);
    GateValues values;
    const LiteralMole wanted = literal_mole(x, y, one.factors, one.gates, strengths);
    EXPECT_TRUE(
        is_close(one.layer(strengths).forward(*linear, x, y.clone(), {}, &values), wanted.result));
    EXPECT_TRUE(is_close(values.global, wanted.global));
  }
}

// With few tokens to act on the others are left out of the products, with many they are not.
TEST(ExpertLayer, MasksActOnTokensAndNotOnTheGlobalGate) {
  int left_out = 0, capped = 0;
  for (const Sizes& sizes : {kSizes[0], kSizes[2]})
    for (const int64_t first : {0, 5})
      for (const double cap : {0.0, 0.02}) {
        const Case one(sizes);
        Linear linear(sizes.in, sizes.out);
        randomise(*linear, 3);
        const at::NoGradGuard no_grad;
        const Tensor x = at::randn({2, 9, sizes.in}), y = linear->forward(x);
        Tensor weights = at::rand({9, 2});
        weights.narrow(0, first, 2).zero_();
        if (first == 5) weights.narrow(0, 0, 5).zero_();
        weights[8][0] = 0;
        const ExpertMask mask(weights);
        left_out += mask.active.defined() ? 1 : 0;
        GateValues values;
        const Tensor result =
            one.layer().forward(*linear, x, y.clone(), {.mask = mask, .cap = cap}, &values);
        LiteralMole wanted = literal_mole(x, y, one.factors, one.gates, {}, weights);
        if (cap > 0)
          for (int64_t row = 0; row < 2; ++row) {
            const double share =
                std::min(cap * (y[row].norm() / wanted.change[row].norm()).item<double>(), 1.0);
            capped += share < 1.0 ? 1 : 0;
            wanted.result[row] = y[row] + share * wanted.change[row];
          }
        EXPECT_TRUE(is_close(result, wanted.result));
        EXPECT_TRUE(is_close(values.global, wanted.global));
        EXPECT_TRUE(is_close(values.local, wanted.local));
        EXPECT_TRUE(is_close(result.narrow(1, first, 2), y.narrow(1, first, 2)));
        EXPECT_FALSE(is_close(result.narrow(1, 7, 2), y.narrow(1, 7, 2)));
      }
  EXPECT_EQ(left_out, 4);
  EXPECT_GT(capped, 0);
}

TEST(ExpertLayer, TheCapHoldsTheNormOfEachRow) {
  const Case one(kSizes[0]);
  Linear linear(40, 48);
  randomise(*linear, 3);
  const at::NoGradGuard no_grad;
  const Tensor x = at::randn({2, 9, 40}), y = linear->forward(x);
  const LiteralMole wanted = literal_mole(x, y, one.factors, one.gates);
  const auto norm = [](const Tensor& row) { return row.norm().item<double>(); };
  const double ratio = norm(wanted.change[0]) / norm(y[0]);
  const auto change = [&](double cap) {
    return one.layer().forward(*linear, x, y.clone(), {.cap = cap}) - y;
  };
  const double low = 0.5 * ratio;
  EXPECT_NEAR(norm(change(low)[0]), low * norm(y[0]), 1e-3);
  EXPECT_TRUE(is_close(change(low)[0], wanted.change[0] * 0.5, {.atol = 1e-4, .rtol = 1e-3}))
      << "the direction stays";
  EXPECT_TRUE(is_close(change(100), wanted.change, {.atol = 1e-4, .rtol = 1e-4}));
  const Tensor nothing = at::zeros_like(y);
  EXPECT_TRUE(
      at::equal(one.layer({0.0, 0.0}).forward(*linear, x, nothing.clone(), {.cap = 1}), nothing))
      << "0 of 0 is no NaN";
}

// What the training of gates stands on: leaves under the same module, with the literal form's
// gradients.
TEST(ExpertLayer, GradientsReachTheGates) {
  for (const Sizes& sizes : kSizes) {
    const Case one(sizes);
    Linear linear(sizes.in, sizes.out);
    randomise(*linear, 3);
    const Tensor x = at::randn({2, 11, sizes.in});
    const Tensor target = at::randn({2, 11, sizes.out});
    const auto gradients = [&](const auto& result_of) {
      LayerGates leaves = one.gates;
      std::vector<Tensor*> all = {&leaves.local_weight, &leaves.local_bias, &leaves.global_weight,
                                  &leaves.global_bias};
      for (Tensor* leaf : all) *leaf = leaf->clone().requires_grad_();
      (result_of(leaves) * target).sum().backward();
      std::vector<Tensor> found;
      for (const Tensor* leaf : all) found.push_back(leaf->grad());
      return found;
    };
    const Tensor y = linear->forward(x).detach();
    const auto fused = gradients([&](const LayerGates& gates) {
      const ExpertLayer layer(one.stacked, gate_rows(one.stacked, gates),
                              std::vector<double>(sizes.ranks.size(), 1.0));
      return layer.forward(*linear, x, y, {});
    });
    const auto literal = gradients(
        [&](const LayerGates& gates) { return literal_mole(x, y, one.factors, gates).result; });
    for (size_t i = 0; i < fused.size(); ++i)
      EXPECT_TRUE(is_close(fused[i], literal[i], {.atol = 1e-4, .rtol = 1e-4}))
          << sizes << " " << i;
  }
}

TEST(ExpertLayer, HalfPrecisionStaysNearFloat) {
  const Case one(kSizes[0]);
  Linear linear(40, 48);
  randomise(*linear, 3);
  const at::NoGradGuard no_grad;
  const Tensor x = at::randn({2, 9, 40}), y = linear->forward(x);
  const Tensor wanted = literal_mole(x, y, one.factors, one.gates).result;
  Linear half(40, 48);
  randomise(*half, 3);
  half->to(at::kBFloat16);
  const Tensor result = one.layer()
                            .to(at::kCPU, at::kBFloat16)
                            .forward(*half, x.to(at::kBFloat16), y.to(at::kBFloat16), {});
  EXPECT_EQ(result.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(is_close(result, wanted, {.atol = 0.15, .rtol = 0.05}));
}

}  // namespace
}  // namespace molar
