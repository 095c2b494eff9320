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
  EXPECT_EQ(Linear(2, 3, Bias::kNone)->named_parameters().keys(),
            std::vector<std::string>{"weight"});
  EXPECT_EQ(Conv2d(Conv2dOptions{.in_channels = 2, .out_channels = 3})->named_parameters().keys(),
            (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(GroupNorm(1, 2, 1e-5)->named_parameters().keys(),
            (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(LayerNorm(2)->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(Embedding(2, 3)->named_parameters().keys(), std::vector<std::string>{"weight"});
}

TEST(Linear, MultipliesByTheTransposedWeightAndAddsTheBias) {
  Linear linear(2, 3);
  linear->named_parameters()["weight"].set_data(
      at::tensor({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}).view({3, 2}));
  linear->named_parameters()["bias"].set_data(at::tensor({0.5f, -1.f, 0.f}));
  const Tensor y = linear->forward(at::tensor({1.f, -1.f}).view({1, 1, 2}));
  EXPECT_TRUE(at::equal(y, at::tensor({-0.5f, -2.f, -1.f}).view({1, 1, 3})));
}

// With autograd ATen's product, without it oneDNN's.
TEST(Linear, GivesTheSameWhetherOrNotAutogradRecords) {
  for (const Bias bias : {Bias::kLearned, Bias::kNone}) {
    Linear linear(33, 20, bias);
    randomise(*linear, 10);
    for (const Tensor& x : {at::randn({33}), at::randn({5, 33}), at::randn({2, 7, 33}),
                            at::randn({2, 33, 7}).transpose(1, 2), at::randn({0, 33})}) {
      const Tensor recorded = linear->forward(x);
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(is_close(linear->forward(x), recorded)) << shape_string(x.sizes());
      EXPECT_TRUE(is_close(linear->forward_slice(x, 3, 8), recorded.narrow(-1, 3, 8)));
    }
  }
}

TEST(Linear, UsesTheWeightThatWasSetLast) {
  Linear linear(2, 1, Bias::kNone);
  randomise(*linear, 1);
  linear->set_weight(at::tensor({3.f, 4.f}).view({1, 2}));
  EXPECT_EQ(linear->forward(at::ones({1, 2})).item<float>(), 7.f);
  // The parameter list sees the same tensor: saving or moving the module later must not bring the
  // old back.
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

// The packed form is oneDNN's business: results, the weight that is read back and the parameter
// list must not show it.
TEST(Conv2d, PacksItsWeightForInferenceAndGivesItBackBitForBit) {
  for (const int64_t stride : {1, 2}) {
    Conv2d conv(
        Conv2dOptions{.in_channels = 20, .out_channels = 24, .stride = stride, .padding = 1});
    randomise(*conv, 3);
    const Tensor plain = conv->weight().clone();
    const Tensor x = in_image_layout(at::randn({2, 20, 6, 5}));
    const Tensor recorded = conv->forward(x);  // autograd may record: ATen's convolution
    EXPECT_FALSE(conv->named_parameters()["weight"].is_mkldnn());
    const at::NoGradGuard no_grad;
    const Tensor packed = conv->forward(x);
    EXPECT_TRUE(is_close(packed, recorded));
    EXPECT_TRUE(packed.is_contiguous(at::MemoryFormat::ChannelsLast));
    EXPECT_TRUE(is_close(conv->forward(x.contiguous()), recorded));
    ASSERT_TRUE(conv->named_parameters()["weight"].is_mkldnn());
    EXPECT_EQ(conv->named_parameters()["weight"].sizes(), plain.sizes());

    EXPECT_TRUE(at::equal(conv->weight(), plain));
    EXPECT_TRUE(at::equal(conv->named_parameters()["weight"], plain));
    EXPECT_TRUE(at::equal(conv->forward(x), packed));
    conv->set_weight(at::zeros_like(plain));
    EXPECT_TRUE(is_close(conv->forward(x)[0][0],
                         conv->named_parameters()["bias"][0].expand_as(packed[0][0])));
  }
}

// A few rows through ATen, many through oneDNN, in every type, into y's memory; where autograd
// records, and where y is a view of other memory, into new memory.
TEST(AddLinearReusing, AddsTheProduct) {
  struct Sizes {
    int64_t rows, in, out;
  };
  for (const Sizes& sizes : {Sizes{6, 5, 7}, Sizes{4200, 64, 512}})
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      for (const bool is_recorded : {true, false}) {
        const at::AutoGradMode mode(is_recorded);
        const Tensor x = (0.1 * at::randn({2, sizes.rows / 2, sizes.in})).to(type);
        const Tensor weight = (0.1 * at::randn({sizes.out, sizes.in})).to(type);
        const Tensor y = at::randn({2, sizes.rows / 2, sizes.out}).to(type);
        const Tensor wanted =
            y.to(at::kFloat) + at::matmul(x.to(at::kFloat), weight.to(at::kFloat).t());
        const Tolerance tolerance = type == at::kFloat ? Tolerance{} : Tolerance{.atol = 0.03};
        const Tensor columns = y.transpose(1, 2).contiguous().transpose(1, 2);
        EXPECT_TRUE(is_close(add_linear_reusing(columns, x, weight), wanted, tolerance));
        if (is_recorded) {
          const Tensor leaf = x.clone().requires_grad_();
          const Tensor sum = add_linear_reusing(y, leaf, weight);
          EXPECT_TRUE(is_close(sum, wanted, tolerance));
          EXPECT_TRUE(sum.requires_grad());
          EXPECT_NE(sum.data_ptr(), y.data_ptr());
        } else {
          const Tensor sum = add_linear_reusing(y, x, weight);
          EXPECT_TRUE(is_close(sum, wanted, tolerance)) << sizes.rows << " rows";
          EXPECT_EQ(sum.data_ptr(), y.data_ptr());
        }
      }
}

// A low-rank path beside the weight is what the product in the weight gives, in every form in which
// a layer runs.
TEST(Layers, AddTheirResidualToEveryResult) {
  const auto path = [](const AdaptableLayer& layer, const Tensor& down, const Tensor& up) {
    return [&layer, down, up](const Tensor& x, const Tensor& y) {
      const Tensor inner = layer.project(x, down);
      return inner.dim() == 4 ? y + at::conv2d(inner, up)
                              : add_linear_reusing(y, inner, up.flatten(1));
    };
  };
  for (const bool recording : {true, false}) {
    const at::AutoGradMode mode(recording);
    Linear linear(6, 8);
    randomise(*linear, 4);
    const Tensor x = at::randn({2, 3, 6}), down = at::randn({2, 6}), up = at::randn({8, 2});
    const Tensor before = linear->forward(x);
    linear->set_residual(path(*linear, down, up));
    const Tensor adapted = linear->forward(x);
    EXPECT_THROW(linear->forward_slice(x, 3, 4), c10::Error);  // a residual is of the whole result
    linear->set_residual({});
    EXPECT_TRUE(at::equal(linear->forward(x), before));
    linear->set_weight(linear->weight() + up.mm(down));
    EXPECT_TRUE(is_close(adapted, linear->forward(x)));
    EXPECT_TRUE(is_close(linear->forward_slice(x, 3, 4), linear->forward(x).narrow(-1, 3, 4)));

    for (const int64_t kernel : {1, 3}) {
      Conv2d conv(Conv2dOptions{.in_channels = 4,
                                .out_channels = 5,
                                .kernel_size = kernel,
                                .stride = kernel == 1 ? 1 : 2,
                                .padding = kernel / 2});
      randomise(*conv, 5);
      const Tensor picture = in_image_layout(at::randn({2, 4, 6, 6}));
      const Tensor first = at::randn({2, 4, kernel, kernel}), second = at::randn({5, 2, 1, 1});
      conv->set_residual(path(*conv, first, second));
      const Tensor map = conv->forward(picture), contiguous = conv->forward(picture.contiguous());
      const Tensor tokens = picture.permute({0, 2, 3, 1}).flatten(1, 2);
      const Tensor on_tokens = kernel == 1 ? conv->forward_tokens(tokens) : Tensor();
      conv->set_residual({});
      const Tensor change = second.flatten(1).mm(first.flatten(1)).view_as(conv->weight());
      conv->set_weight((conv->weight() + change).contiguous());
      EXPECT_TRUE(is_close(map, conv->forward(picture)));
      EXPECT_TRUE(is_close(contiguous, conv->forward(picture)));
      if (kernel == 1) {
        EXPECT_TRUE(is_close(on_tokens, conv->forward_tokens(tokens)));
      }
    }
  }
}

TEST(Conv2d, CanBeTrainedAfterInference) {
  Conv2d conv(Conv2dOptions{.in_channels = 4, .out_channels = 3, .padding = 1});
  randomise(*conv, 9);
  const Tensor x = at::randn({1, 4, 3, 3});
  {
    const c10::InferenceMode inference;
    conv->forward(x);
  }
  const Tensor input = x.clone().requires_grad_();
  conv->forward(input).sum().backward();
  const Tensor ones = at::ones({1, 3, 3, 3});
  const Tensor wanted = at::conv_transpose2d(ones, conv->weight(), {}, 1, 1);
  EXPECT_TRUE(is_close(input.grad(), wanted));
}

TEST(Conv2d, OfSizeOneGivesTheSameOnTokensAndOnBothLayouts) {
  Conv2d conv(Conv2dOptions{.in_channels = 4, .out_channels = 6, .kernel_size = 1});
  randomise(*conv, 4);
  const Tensor x = at::randn({2, 4, 3, 5});
  const auto w = conv->named_parameters();
  const Tensor wanted = at::conv2d(x, w["weight"], w["bias"]);
  const Tensor tokens = x.permute({0, 2, 3, 1}).flatten(1, 2);
  EXPECT_TRUE(is_close(conv->forward_tokens(tokens), wanted.permute({0, 2, 3, 1}).flatten(1, 2)));
  EXPECT_TRUE(is_close(conv->forward(x), wanted));
  const Tensor last = conv->forward(x.contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(is_close(last, wanted));
  EXPECT_TRUE(last.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(AdaptableLayer, RefusesAWeightOfAnotherShapeTypeOrLayout) {
  Conv2d conv(Conv2dOptions{.in_channels = 2, .out_channels = 3});
  randomise(*conv, 5);
  const Tensor before = conv->weight().clone();
  EXPECT_THROW(conv->set_weight(at::zeros({3, 2, 1, 1})), Error);
  EXPECT_THROW(conv->set_weight(at::zeros({3, 2, 3, 3}, at::kDouble)), Error);
  EXPECT_THROW(conv->set_weight(at::zeros({2, 3, 3, 3}).transpose(0, 1)), Error);
  EXPECT_TRUE(at::equal(conv->weight(), before));
  for (const auto layout : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
    conv->set_weight(before);
    conv->set_weight(at::zeros({3, 2, 3, 3}).contiguous(layout));
    EXPECT_EQ(conv->weight().abs().max().item<float>(), 0.f);
  }
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
  for (const auto& function : {silu_reusing, gelu_reusing})
    EXPECT_NE(function(leaf).data_ptr(), leaf.data_ptr());
  EXPECT_NE(mul_reusing(leaf, y).data_ptr(), leaf.data_ptr());
  EXPECT_NE(mul_reusing(y, leaf).data_ptr(), y.data_ptr());
  EXPECT_EQ(y[0].item<float>(), 2.f);
  const at::NoGradGuard no_grad;
  const Tensor plain = at::ones({3});
  EXPECT_EQ(silu_reusing(plain).data_ptr(), plain.data_ptr());
  EXPECT_NEAR(plain[0].item<float>(), 0.7310586f, 1e-6);
  const Tensor gated = at::ones({3});
  EXPECT_EQ(gelu_reusing(gated).data_ptr(), gated.data_ptr());
  EXPECT_NEAR(gated[0].item<float>(), 0.8413447f, 1e-6);
  EXPECT_EQ(mul_reusing(gated, y).data_ptr(), gated.data_ptr());
  EXPECT_NEAR(gated[0].item<float>(), 1.6826895f, 1e-6);
}

}  // namespace
}  // namespace molar
