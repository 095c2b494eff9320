#include "molar/models/embeddings.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/expect_close.h"
#include "support/random_weights.h"

namespace molar {
namespace {

TEST(SinusoidalEmbedding, HasFallingFrequenciesCosinesFirst) {
  const Tensor out = sinusoidal_embedding(at::tensor({0.0, 981.0}), {.num_channels = 8});
  for (int64_t i = 0; i < 4; ++i) {
    const double angle = 981.0 * std::pow(10000.0, -static_cast<double>(i) / 4);
    // The angle itself is rounded to float32: 981 has 3e-5 of absolute precision.
    EXPECT_NEAR(out[1][i].item<double>(), std::cos(angle), 1e-4);
    EXPECT_NEAR(out[1][4 + i].item<double>(), std::sin(angle), 1e-4);
    EXPECT_EQ(out[0][i].item<double>(), 1.0);
    EXPECT_EQ(out[0][4 + i].item<double>(), 0.0);
  }
}

TEST(SinusoidalEmbedding, FollowsFlipShiftAndOddWidths) {
  const Tensor out =
      sinusoidal_embedding(at::tensor({3, 5}, at::kLong),
                           {.num_channels = 7, .flip_sin_to_cos = false, .freq_shift = 1.0});
  ASSERT_EQ(out.sizes(), (std::vector<int64_t>{2, 7}));
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  for (int64_t i = 0; i < 3; ++i) {
    const double angle = 5.0 * std::pow(10000.0, -static_cast<double>(i) / (3.0 - 1.0));
    EXPECT_NEAR(out[1][i].item<double>(), std::sin(angle), 1e-5);
    EXPECT_NEAR(out[1][3 + i].item<double>(), std::cos(angle), 1e-5);
  }
  EXPECT_EQ(out[1][6].item<double>(), 0.0);
}

TEST(TimestepEmbedding, AddsTheConditionBeforeTheFirstLayer) {
  TimestepEmbedding embedding(
      TimestepEmbeddingOptions{.in_channels = 3, .time_embed_dim = 4, .cond_proj_dim = 2});
  randomise(*embedding, 1);
  const Tensor x = at::randn({2, 3}), condition = at::randn({2, 2});
  const auto w = embedding->named_parameters();
  const auto two_layers = [&](const Tensor& input) {
    const Tensor hidden = at::silu(input.matmul(w["linear_1.weight"].t()) + w["linear_1.bias"]);
    return hidden.matmul(w["linear_2.weight"].t()) + w["linear_2.bias"];
  };
  EXPECT_TRUE(is_close(embedding->forward(x), two_layers(x)));
  EXPECT_TRUE(is_close(embedding->forward(x, condition),
                       two_layers(x + condition.matmul(w["cond_proj.weight"].t()))));
}

}  // namespace
}  // namespace molar
