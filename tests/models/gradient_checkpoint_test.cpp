#include "molar/models/gradient_checkpoint.h"

#include <gtest/gtest.h>

#include "molar/models/layers.h"
#include "support/expect_close.h"
#include "support/random_weights.h"

namespace molar {
namespace {

/// y = W2 tanh(W1 a) + b, W1 and W2 with gradients.
struct SmallNetwork {
  Tensor first = at::randn({5, 4}).requires_grad_(), second = at::randn({3, 5}).requires_grad_();
  int num_runs = 0;

  NetworkPart part() {
    return [this](const std::vector<Tensor>& inputs) {
      ++num_runs;
      return at::linear(at::linear(inputs[0], first).tanh(), second) + inputs[1];
    };
  }
};

TEST(GradientCheckpoint, GivesTheSameResultAndGradients) {
  torch::manual_seed(1);
  SmallNetwork network;
  const Tensor a = at::randn({2, 4}).requires_grad_(), b = at::randn({2, 3});
  const Tensor direct = network.part()({a, b});
  direct.square().sum().backward();
  const Tensor a_grad = a.grad().clone(), first_grad = network.first.grad().clone();
  a.mutable_grad().zero_();
  network.first.mutable_grad().zero_();

  network.num_runs = 0;
  const Tensor recomputed = checkpointed(network.part(), {a, b});
  EXPECT_EQ(network.num_runs, 1);
  EXPECT_TRUE(at::equal(recomputed, direct));
  recomputed.square().sum().backward();
  EXPECT_EQ(network.num_runs, 2);
  EXPECT_TRUE(at::equal(a.grad(), a_grad));
  EXPECT_TRUE(at::equal(network.first.grad(), first_grad));
  EXPECT_FALSE(b.grad().defined());
}

TEST(GradientCheckpoint, ReachesParametersWhereNoInputNeedsAGradient) {
  torch::manual_seed(2);
  SmallNetwork network;
  checkpointed(network.part(), {at::randn({2, 4}), at::randn({2, 3})}).sum().backward();
  EXPECT_GT(network.first.grad().abs().sum().item<float>(), 0);
}

TEST(GradientCheckpoint, IsThePlainCallWithoutGradients) {
  SmallNetwork network;
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(
      checkpointed(network.part(), {at::randn({2, 4}), at::randn({2, 3})}).requires_grad());
  EXPECT_EQ(network.num_runs, 1);
}

// The layers choose oneDNN's packed kernels without gradients: the first run must not.
TEST(GradientCheckpoint, RunsTheKernelsOfTraining) {
  Conv2d conv(Conv2dOptions{.in_channels = 4, .out_channels = 4, .padding = 1});
  randomise(*conv, 3);
  const Tensor x = at::randn({1, 4, 5, 5}).requires_grad_();
  const auto part = [&conv](const std::vector<Tensor>& inputs) { return conv(inputs[0]); };
  const Tensor y = checkpointed(part, {x});
  EXPECT_FALSE(conv->named_parameters()["weight"].is_mkldnn());
  EXPECT_TRUE(at::equal(y, conv(x)));
}

}  // namespace
}  // namespace molar
