#include "molar/training/trainable_lora.h"

#include "molar/models/layers.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "support/random_weights.h"
#include "training_fixtures.h"

namespace molar {
namespace {

using namespace test;

/// Two layers under names that targets know.
struct TinyModel {
  Linear to_q{4, 3};
  Conv2d conv1{Conv2dOptions{.in_channels = 3, .out_channels = 2, .padding = 1}};
  ModelLayers layers;

  TinyModel() {
    randomise(*to_q, 1);
    randomise(*conv1, 2);
    layers.components["unet"] = {{"a.to_q", &*to_q}, {"a.conv1", &*conv1}};
  }
  /// A number that every weight has a part in; quadratic in each single one.
  Tensor run(const Tensor& x) {  // [1, 16, 4]
    const Tensor map = to_q(x).unflatten(1, {4, 4}).permute({0, 3, 1, 2});
    return conv1(map).square().sum();
  }
};

LoraTrainingOptions options_for(std::set<LoraTarget> targets) {
  LoraTrainingOptions options = quick_options();
  options.targets = std::move(targets);
  options.alpha = 3.0;
  return options;
}

const std::set<LoraTarget> kBoth = {LoraTarget::kAttention, LoraTarget::kConvolution};

TEST(TrainableLora, StartsWithoutAnEffectAndEndsWithoutATrace) {
  TinyModel model;
  const Tensor x = at::randn({1, 16, 4});
  const Tensor before = model.run(x);
  {
    const TrainableLora lora(model.layers, options_for(kBoth));
    EXPECT_TRUE(at::equal(model.run(x), before));
    const torch::NoGradGuard no_grad;
    for (const Tensor& parameter : lora.parameters()) parameter.fill_(0.5);
    EXPECT_FALSE(at::equal(model.run(x), before));
  }
  EXPECT_TRUE(at::equal(model.run(x), before));
}

TEST(TrainableLora, GradientsAreTheNumericDifferences) {
  TinyModel model;
  const TrainableLora lora(model.layers, options_for(kBoth));
  const Tensor x = at::randn({1, 16, 4});
  {
    const torch::NoGradGuard no_grad;
    for (const Tensor& parameter : lora.parameters()) parameter.copy_(at::randn_like(parameter));
  }
  model.run(x).backward();
  constexpr double kStep = 0.25;  // of a quadratic the central difference is exact for any step
  for (const Tensor& parameter : lora.parameters()) {
    const Tensor gradient = parameter.grad().flatten();
    const double largest = gradient.abs().max().item<double>();
    const torch::NoGradGuard no_grad;
    const Tensor values = parameter.view({-1});
    for (int64_t i = 0; i < values.size(0); ++i) {
      const double value = values[i].item<double>();
      const auto at = [&](double changed) {
        values[i].fill_(changed);
        const double y = model.run(x).item<double>();
        values[i].fill_(value);
        return y;
      };
      const double slope = (at(value + kStep) - at(value - kStep)) / (2 * kStep);
      EXPECT_NEAR(gradient[i].item<double>(), slope, 1e-4 * largest);
    }
  }
}

TEST(TrainableLora, ActsAsItsWeightsFusedIntoTheModel) {
  TinyModel model;
  const Tensor x = at::randn({1, 16, 4});
  Tensor beside;
  LoraWeights weights;
  {
    const TrainableLora lora(model.layers, options_for(kBoth));
    const torch::NoGradGuard no_grad;
    for (const Tensor& parameter : lora.parameters()) parameter.copy_(at::randn_like(parameter));
    beside = model.run(x);
    weights = lora.weights();
  }
  for (const auto& [name, layer] : weights.layers) {
    AdaptableLayer& target = *model.layers.components.at(name.component).at(name.module);
    target.set_weight((target.weight() + layer.delta()).contiguous());
  }
  EXPECT_TRUE(is_close(beside, model.run(x)));
  EXPECT_EQ(weights.layers.begin()->second.scale, 1.5);  // alpha 3, rank 2
}

TEST(TrainableLora, DrawsAsPeftInitialises) {
  TinyModel model;
  const TrainableLora lora(model.layers, options_for(kBoth));
  const TrainableFactors& factors = lora.factors().at({"unet", "a.conv1"});
  EXPECT_EQ(factors.down.sizes(), (std::vector<int64_t>{2, 3, 3, 3}));
  EXPECT_EQ(factors.up.sizes(), (std::vector<int64_t>{2, 2, 1, 1}));
  EXPECT_EQ(factors.up.abs().max().item<float>(), 0);
  const double bound = 1 / std::sqrt(27.0);  // 3 channels of 3x3
  EXPECT_LE(factors.down.abs().max().item<double>(), bound);
  EXPECT_GT(factors.down.abs().max().item<double>(), 0.8 * bound);
}

/// What each target chooses from the UNet and text encoder of sd15-tiny.
TEST(TrainableLora, TargetsChooseTheirLayers) {
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  UNet2DConditionModel unet = load_unet(checkpoint.component("unet"), {});
  CLIPTextModel encoder = load_text_encoder(checkpoint.component("text_encoder"), {});
  const ModelLayers layers{
      ModelFamily::kSd1,
      {{"unet", adaptable_layers(*unet)}, {"text_encoder", adaptable_layers(*encoder)}}};
  const std::pair<LoraTarget, size_t> kCounts[] = {
      {LoraTarget::kAttention, 4 * 8},            // 1 + 1 + 2 transformers, 2 attentions, 4 layers
      {LoraTarget::kFeedForward, 4 * 4},          // ff.net.0.proj, ff.net.2, proj_in, proj_out
      {LoraTarget::kConvolution, 2 * 8 + 5 + 2},  // 8 resnets, 5 of which change width; 2 samplers
      {LoraTarget::kTextEncoder, 3 * 4},
  };
  for (const auto& [target, count] : kCounts)
    EXPECT_EQ(TrainableLora(layers, options_for({target})).factors().size(), count)
        << lora_target_names()[static_cast<size_t>(target)];
}

TEST(TrainableLora, ATargetWithoutLayersIsAnError) {
  TinyModel model;
  expect_error<ConfigError>(
      [&] { TrainableLora(model.layers, options_for({LoraTarget::kTextEncoder})); },
      {"--target text-encoder", "no such layer"});
}

}  // namespace
}  // namespace molar
