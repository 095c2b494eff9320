#include "molar/models/layers.h"

#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "support/expect_close.h"
#include "support/random_weights.h"

namespace molar {
namespace {

TEST(Layers, CostNothingUntilTheyAreLoaded) {
  // 2^40 weights: a real allocation of 4 TiB would fail.
  const Linear linear(int64_t{1} << 20, int64_t{1} << 20);
  EXPECT_EQ(linear->weight().sizes(), (std::vector<int64_t>{1 << 20, 1 << 20}));
  EXPECT_EQ(linear->weight().storage().nbytes(), sizeof(float));
  EXPECT_FALSE(linear->weight().requires_grad());
}

TEST(Layers, RegisterDiffusersNames) {
  EXPECT_EQ(Linear(2, 3)->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(Linear(2, 3, Bias::kNone)->named_parameters().keys(), std::vector<std::string>{"weight"});
  EXPECT_EQ(Conv2d(Conv2dOptions{.in_channels = 2, .out_channels = 3})->named_parameters().keys(),
            (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(GroupNorm(1, 2, 1e-5)->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(LayerNorm(2)->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(Embedding(2, 3)->named_parameters().keys(), std::vector<std::string>{"weight"});
}

TEST(Linear, MultipliesByTheTransposedWeightAndAddsTheBias) {
  Linear linear(2, 3);
  linear->named_parameters()["weight"].set_data(at::tensor({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}).view({3, 2}));
  linear->named_parameters()["bias"].set_data(at::tensor({0.5f, -1.f, 0.f}));
  const Tensor y = linear->forward(at::tensor({1.f, -1.f}).view({1, 1, 2}));
  EXPECT_TRUE(at::equal(y, at::tensor({-0.5f, -2.f, -1.f}).view({1, 1, 3})));
}

TEST(Linear, UsesTheWeightThatWasSetLast) {
  Linear linear(2, 1, Bias::kNone);
  randomise(*linear, 1);
  linear->set_weight(at::tensor({3.f, 4.f}).view({1, 2}));
  EXPECT_EQ(linear->forward(at::ones({1, 2})).item<float>(), 7.f);
  // The parameter list sees the same tensor: saving or moving the module later must not bring the old back.
  EXPECT_TRUE(at::equal(linear->named_parameters()["weight"], linear->weight()));
}

TEST(Conv2d, AgreesWithSumsOverTheWindow) {
  Conv2d conv(Conv2dOptions{.in_channels = 2, .out_channels = 3, .stride = 2, .padding = 1});
  randomise(*conv, 2);
  const Tensor x = at::randn({1, 2, 5, 4}), y = conv->forward(x);
  ASSERT_EQ(y.sizes(), (std::vector<int64_t>{1, 3, 3, 2}));
  const Tensor padded = at::constant_pad_nd(x, {1, 1, 1, 1});
  const Tensor bias = conv->named_parameters()["bias"];
  for (int64_t o = 0; o < 3; ++o)
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t j = 0; j < 2; ++j) {
        const Tensor window = padded[0].slice(1, 2 * i, 2 * i + 3).slice(2, 2 * j, 2 * j + 3);
        EXPECT_NEAR(y[0][o][i][j].item<float>(),
                    ((window * conv->weight()[o]).sum() + bias[o]).item<float>(), 1e-5);
      }
}

TEST(Conv2d, KeepsChannelsLastWhereTheWeightIsChannelsLast) {
  Conv2d conv(Conv2dOptions{.in_channels = 2, .out_channels = 3, .padding = 1});
  randomise(*conv, 3);
  const Tensor x = in_layout_of(at::randn({2, 2, 4, 4}), conv->weight());
  EXPECT_TRUE(x.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(conv->forward(x).is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(Conv2d, OfSizeOneGivesTheSameOnTokens) {
  Conv2d conv(Conv2dOptions{.in_channels = 4, .out_channels = 6, .kernel_size = 1});
  randomise(*conv, 4);
  const Tensor x = at::randn({2, 4, 3, 5});
  const Tensor tokens = x.permute({0, 2, 3, 1}).flatten(1, 2);
  EXPECT_TRUE(is_close(conv->forward_tokens(tokens),
                       conv->forward(x).permute({0, 2, 3, 1}).flatten(1, 2)));
}

TEST(AdaptableLayer, RefusesAWeightOfAnotherShapeTypeOrLayout) {
  Conv2d conv(Conv2dOptions{.in_channels = 2, .out_channels = 3});
  randomise(*conv, 5);
  const Tensor before = conv->weight().clone();
  const auto channels_last = at::MemoryFormat::ChannelsLast;
  EXPECT_THROW(conv->set_weight(at::zeros({3, 2, 1, 1})), Error);
  EXPECT_THROW(conv->set_weight(at::zeros({3, 2, 3, 3}, at::kDouble).contiguous(channels_last)), Error);
  EXPECT_THROW(conv->set_weight(at::zeros({3, 2, 3, 3})), Error);
  EXPECT_TRUE(at::equal(conv->weight(), before));
  conv->set_weight(at::zeros({3, 2, 3, 3}).contiguous(channels_last));
  EXPECT_EQ(conv->weight().abs().max().item<float>(), 0.f);
}

TEST(GroupNorm, GivesEachGroupMeanZeroAndVarianceOneThenScales) {
  GroupNorm norm(2, 6, 1e-5);
  randomise(*norm, 6);
  const Tensor x = 3 * at::randn({2, 6, 4, 5}) + 1;
  const Tensor groups = x.view({2, 2, -1}).to(at::kDouble);
  const Tensor variance = groups.var(2, /*unbiased=*/false, /*keepdim=*/true);
  const Tensor plain = ((groups - groups.mean(2, true)) / (variance + 1e-5).sqrt()).view_as(x);
  const auto parameters = norm->named_parameters();
  const Tensor wanted =
      plain * parameters["weight"].view({1, 6, 1, 1}) + parameters["bias"].view({1, 6, 1, 1});
  EXPECT_TRUE(is_close(norm->forward(x), wanted));
  const Tensor last = norm->forward(x.contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(is_close(last, wanted));
  EXPECT_TRUE(last.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(LayerNorm, NormalisesTheLastDimension) {
  LayerNorm norm(8, 1e-3);
  randomise(*norm, 7);
  const Tensor x = 2 * at::randn({3, 4, 8}) - 1, wide = x.to(at::kDouble);
  const Tensor plain = (wide - wide.mean(-1, true)) / (wide.var(-1, false, true) + 1e-3).sqrt();
  const auto parameters = norm->named_parameters();
  EXPECT_TRUE(is_close(norm->forward(x), plain * parameters["weight"] + parameters["bias"]));
}

TEST(Embedding, LooksUpRows) {
  Embedding embedding(5, 2);
  randomise(*embedding, 8);
  const Tensor ids = at::tensor({4, 0, 4}, at::kLong);
  EXPECT_TRUE(at::equal(embedding->forward(ids), embedding->weight().index_select(0, ids)));
}

TEST(ReusingFunctions, WriteInPlaceOnlyWhereNothingIsRecorded) {
  const Tensor x = at::ones({3}), y = at::full({3}, 2.f);
  EXPECT_EQ(add_reusing(x, y).data_ptr(), x.data_ptr());
  EXPECT_EQ(x[0].item<float>(), 3.f);

  const Tensor leaf = at::ones({3}).requires_grad_();
  EXPECT_NE(add_reusing(leaf, y).data_ptr(), leaf.data_ptr());
  EXPECT_NE(add_reusing(y, leaf).data_ptr(), y.data_ptr());
  EXPECT_NE(silu_reusing(leaf).data_ptr(), leaf.data_ptr());
  EXPECT_EQ(y[0].item<float>(), 2.f);
  const at::NoGradGuard no_grad;
  const Tensor plain = at::ones({3});
  EXPECT_EQ(silu_reusing(plain).data_ptr(), plain.data_ptr());
  EXPECT_NEAR(plain[0].item<float>(), 0.7310586f, 1e-6);
}

}  // namespace
}  // namespace molar
