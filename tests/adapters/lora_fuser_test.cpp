#include "molar/adapters/lora_fuser.h"

#include "lora_fixtures.h"
#include "molar/adapters/lora_io.h"
#include "molar/adapters/low_rank.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"

namespace molar {
namespace {

using test::FakeModel;
using test::golden;
using test::kConv;
using test::kFc1;
using test::kProjIn;
using test::kToK;
using test::kToQ;
using test::noise;
using test::small_model;
using test::tiny_model;

// Rounding of one float32 sum.
constexpr Tolerance kRounding{.atol = 1e-5, .rtol = 1e-5};

/// A rank-2 change of each named layer.
LoraWeights lora_for(const FakeModel& model, const std::vector<LayerName>& names, uint64_t seed) {
  LoraWeights weights;
  for (const LayerName& name : names) {
    std::vector<int64_t> down = model.original(name).sizes().vec();
    std::vector<int64_t> up(down.size(), 1);
    up[0] = down[0];
    up[1] = down[0] = 2;
    LoraLayer layer;
    layer.factors = LowRankFactors{.down = noise(down, seed), .up = noise(up, seed + 1), .mid = {}};
    layer.scale = 0.5;
    layer.weight_shape = model.original(name).sizes().vec();
    weights.layers[name] = layer;
  }
  return weights;
}

/// Same numbers, shape, strides and type.
bool same_bits(const Tensor& a, const Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.strides() == b.strides() && at::equal(a, b);
}

void expect_original(const FakeModel& model) {
  for (const auto& [name, weight] : model.originals())
    EXPECT_TRUE(same_bits(model.layer(name).weight(), weight)) << name.module;
}

/// With a source, and without one (then the fuser keeps the originals).
class LoraFuserSource : public testing::TestWithParam<bool> {
 protected:
  WeightSource source(const FakeModel& model) const {
    return GetParam() ? model.source() : WeightSource();
  }
};
INSTANTIATE_TEST_SUITE_P(Source, LoraFuserSource, testing::Bool(),
                         [](const auto& row) { return std::string(row.param ? "Given" : "Kept"); });

TEST_P(LoraFuserSource, AddsStrengthTimesTheChangeAndTakesItBackExactly) {
  FakeModel model = small_model();
  const LoraWeights weights = lora_for(model, {kToQ, kProjIn, kConv, kFc1}, 3);
  LoraFuser fuser(model.layers, source(model));
  EXPECT_FALSE(fuser.attached());
  fuser.attach({{&weights, 0.75}});
  EXPECT_TRUE(fuser.attached());
  EXPECT_EQ(fuser.num_changed_layers(), 4);
  for (const auto& [name, layer] : weights.layers)
    EXPECT_TRUE(is_close(model.layer(name).weight(), model.original(name) + 0.75 * layer.delta(),
                         kRounding))
        << name.module;
  EXPECT_EQ(model.layer(kToK).num_changes, 0);
  fuser.detach();
  EXPECT_FALSE(fuser.attached());
  expect_original(model);
}

TEST_P(LoraFuserSource, SumsSeveralFilesInOneGo) {
  FakeModel model = small_model();
  const LoraWeights first = lora_for(model, {kToQ, kConv}, 3),
                    second = lora_for(model, {kToQ, kToK}, 8);
  LoraFuser fuser(model.layers, source(model));
  fuser.attach({{&first, 0.5}, {&second, -1.25}});
  EXPECT_EQ(fuser.num_changed_layers(), 3);
  const Tensor both = model.original(kToQ) + 0.5 * first.layers.at(kToQ).delta() -
                      1.25 * second.layers.at(kToQ).delta();
  EXPECT_TRUE(is_close(model.layer(kToQ).weight(), both, kRounding));
  EXPECT_TRUE(is_close(model.layer(kToK).weight(),
                       model.original(kToK) - 1.25 * second.layers.at(kToK).delta(), kRounding));
  fuser.detach();
  expect_original(model);
}

TEST_P(LoraFuserSource, AttachingAgainStartsFromTheOriginals) {
  FakeModel model = small_model();
  const LoraWeights first = lora_for(model, {kToQ, kConv}, 3),
                    second = lora_for(model, {kToQ, kToK}, 8);
  LoraFuser fuser(model.layers, source(model));
  for (int i = 0; i < 5; ++i) fuser.attach({{&first, 3.0}});
  fuser.attach({{&second, 1.0}});
  FakeModel fresh = small_model();
  LoraFuser once(fresh.layers, fresh.source());
  once.attach({{&second, 1.0}});
  for (const auto& [name, weight] : model.originals())
    EXPECT_TRUE(same_bits(model.layer(name).weight(), fresh.layer(name).weight())) << name.module;
  EXPECT_EQ(fuser.num_changed_layers(), 2);
  fuser.attach({});
  EXPECT_FALSE(fuser.attached());
  expect_original(model);
}

TEST_P(LoraFuserSource, KeepsTypeAndLayoutOfEveryWeight) {
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
    FakeModel model;
    model.add(kToQ, noise({8, 8}, 1).to(dtype));
    model.add(kConv, noise({8, 4, 3, 3}, 2).to(dtype).contiguous(at::MemoryFormat::ChannelsLast));
    const LoraWeights weights = lora_for(model, {kToQ, kConv}, 3);
    LoraFuser fuser(model.layers, source(model));
    fuser.attach({{&weights, 1.0}});
    for (const auto& [name, layer] : weights.layers) {
      const Tensor& fused = model.layer(name).weight();
      EXPECT_EQ(fused.scalar_type(), dtype);
      EXPECT_EQ(fused.strides(), model.original(name).strides());
      // One rounding to the weight's type, of the float32 sum.
      const Tensor wanted = (model.original(name).to(at::kFloat) + layer.delta()).to(dtype);
      EXPECT_TRUE(
          is_close(fused, wanted, {.atol = 1e-5, .rtol = dtype == at::kFloat ? 1e-5 : 8e-3}));
    }
    fuser.detach();
    expect_original(model);
  }
}

TEST(LoraFuser, HalfPrecisionRoundsTheSumOfAllFilesOnce) {
  FakeModel model;
  model.add(kToQ, torch::full({1, 1}, 2048.0).to(at::kHalf));
  const auto one = [] {
    LoraWeights weights;
    LoraLayer layer;
    layer.factors =
        LowRankFactors{.down = torch::ones({1, 1}), .up = torch::ones({1, 1}), .mid = {}};
    layer.weight_shape = {1, 1};
    weights.layers[kToQ] = layer;
    return weights;
  }();
  LoraFuser fuser(model.layers, model.source());
  // Neighbours of 2048 in half precision are 2 apart: rounding after each file would lose every
  // one.
  fuser.attach({{&one}, {&one}, {&one}, {&one}});
  EXPECT_EQ(model.layer(kToQ).weight().item<double>(), 2052.0);
}

TEST(LoraFuser, AStrengthOfZeroLeavesTheWeightsAsTheyAre) {
  FakeModel model = small_model();
  const LoraWeights weights = lora_for(model, {kToQ, kConv}, 3);
  LoraFuser fuser(model.layers, model.source());
  fuser.attach({{&weights, 0.0}});
  expect_original(model);
}

TEST(LoraFuser, NeverWritesIntoTheOriginalTensors) {
  FakeModel model = small_model();
  std::map<LayerName, Tensor> copies;
  for (const auto& [name, weight] : model.originals()) copies[name] = weight.clone();
  const LoraWeights weights = lora_for(model, {kToQ, kToK, kProjIn, kConv, kFc1}, 3);
  LoraFuser fuser(model.layers, model.source());
  fuser.attach({{&weights, 1.0}});
  for (const auto& [name, weight] : model.originals())
    EXPECT_TRUE(at::equal(weight, copies.at(name))) << name.module;
}

TEST(LoraFuser, RefusesALoraOfAnotherModelAndLeavesThisOneClean) {
  FakeModel model = small_model(), other;
  other.add({"unet", "elsewhere"}, {4, 4});
  const LoraWeights fits = lora_for(model, {kToQ}, 3),
                    foreign = lora_for(other, {{"unet", "elsewhere"}}, 3);
  LoraFuser fuser(model.layers, model.source());
  fuser.attach({{&fits}});
  test::expect_error<Error>([&] { fuser.attach({{&fits}, {&foreign}}); },
                            {"elsewhere", "unet", "another"});
  EXPECT_FALSE(fuser.attached());
  expect_original(model);
}

TEST(LoraFuser, AFailureHalfWayRestoresTheModel) {
  FakeModel model = small_model();
  LoraWeights weights = lora_for(model, {kToQ, kConv, kFc1}, 3);
  weights.layers[kToQ].weight_shape = {4, 4};  // sorted after the layers of the text encoder
  LoraFuser fuser(model.layers, model.source());
  EXPECT_THROW(fuser.attach({{&weights}}), Error);
  EXPECT_GT(model.layer(kFc1).num_changes, 0);
  EXPECT_FALSE(fuser.attached());
  expect_original(model);
}

TEST(LoraFuser, WorksInsideInferenceModeOnAModelThatOutlivesIt) {
  FakeModel model = small_model();
  const LoraWeights weights = lora_for(model, {kToQ, kConv}, 3);
  LoraFuser fuser(model.layers, model.source());
  {
    const c10::InferenceMode guard;
    fuser.attach({{&weights}});
  }
  EXPECT_FALSE(model.layer(kToQ).weight().is_inference());
  Tensor x = torch::ones({8}, at::requires_grad());
  at::matmul(model.layer(kToQ).weight(), x).sum().backward();  // refused for an inference tensor
  EXPECT_TRUE(x.grad().defined());
}

// ---- on the real modules ----

/// The parameters of a module as they are now.
std::map<std::string, Tensor> copy_of(const torch::nn::Module& module) {
  std::map<std::string, Tensor> copies;
  for (const auto& parameter : module.named_parameters())
    copies[parameter.key()] =  // packed convolutions compare by their plain values
        parameter.value().is_mkldnn() ? parameter.value().to_dense() : parameter.value().clone();
  return copies;
}

TEST(LoraFuser, ChangesWhatTheUNetComputesAndRestoresEveryBit) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Checkpoint checkpoint = open_checkpoint(golden("models/sd15-tiny"), {});
    const ComputeOptions options{.device = at::kCPU, .dtype = dtype};
    UNet2DConditionModel unet = load_unet(checkpoint.component("unet"), options);
    const ModelLayers layers{ModelFamily::kSd1, {{"unet", adaptable_layers(*unet)}}};
    const LoraWeights weights =
        load_lora(golden("lora/sd15-peft/adapter_model.safetensors"), layers);
    const c10::InferenceMode guard;
    const auto run = [&] {
      UNetConditioning conditioning;
      conditioning.encoder_hidden_states = noise({1, 7, 32}, 2).to(dtype);
      return unet
          ->forward(noise({1, 4, 8, 8}, 1).to(dtype), torch::full({1}, 500, at::kLong),
                    conditioning)
          .clone();
    };
    const auto before = copy_of(*unet);
    const Tensor plain = run();
    LoraFuser fuser(layers, weights_from_checkpoint(checkpoint, options));
    for (int round = 0; round < 2; ++round) {
      fuser.attach({{&weights, 0.5}});
      EXPECT_FALSE(is_close(run(), plain, {.atol = 1e-2, .rtol = 0}));
      fuser.detach();
      for (const auto& [name, value] : copy_of(*unet))
        EXPECT_TRUE(at::equal(value, before.at(name))) << name;
      EXPECT_TRUE(at::equal(run(), plain)) << "bit for bit";
    }
  }
}

TEST(LoraFuser, ReattachChangesTheNamedLayersAlone) {
  FakeModel model = small_model();
  LoraFuser fuser(model.layers, model.source());
  LoraWeights first, second;
  first.layers[kToQ] = plain_layer({.down = noise({2, 8}, 1), .up = noise({8, 2}, 2)}, {8, 8});
  first.layers[kToK] = plain_layer({.down = noise({2, 6}, 3), .up = noise({8, 2}, 4)}, {8, 6});
  second.layers[kToQ] = plain_layer({.down = noise({1, 8}, 5), .up = noise({8, 1}, 6)}, {8, 8});
  fuser.attach({{&first}});
  const Tensor other = model.layer(kToK).weight().clone();
  fuser.reattach({{&second, 0.5}}, {kToQ});
  EXPECT_TRUE(is_close(model.layer(kToQ).weight(),
                       model.original(kToQ) + 0.5 * second.layers.at(kToQ).delta(),
                       {.atol = 1e-5, .rtol = 1e-5}));
  EXPECT_TRUE(at::equal(model.layer(kToK).weight(), other));
  fuser.reattach({{&second}}, {kToK});  // which it does not have
  EXPECT_TRUE(at::equal(model.layer(kToK).weight(), model.original(kToK)));
  fuser.detach();
  EXPECT_TRUE(at::equal(model.layer(kToQ).weight(), model.original(kToQ)));
}

}  // namespace
}  // namespace molar
