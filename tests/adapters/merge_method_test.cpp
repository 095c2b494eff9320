#include "molar/adapters/merge/merge_method.h"

#include "lora_fixtures.h"
#include "molar/adapters/lora_fuser.h"
#include "molar/adapters/lora_io.h"

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

// Sums of float32 products in another order.
constexpr Tolerance kRounding{.atol = 1e-5, .rtol = 1e-5};

LoraLayer low_rank(std::vector<int64_t> shape, int64_t rank, uint64_t seed) {
  std::vector<int64_t> down = shape, up(shape.size(), 1);
  up[0] = shape[0];
  up[1] = down[0] = rank;
  LoraLayer layer;
  layer.factors = LowRankFactors{.down = noise(down, seed), .up = noise(up, seed + 1), .mid = {}};
  layer.scale = 0.5 * static_cast<double>(seed % 3 + 1);
  layer.weight_shape = std::move(shape);
  return layer;
}

/// Two files that share kToQ and kConv, with different ranks; each has a layer of its own.
std::vector<MergeInput> two_roles(double subject_strength = 0.75, double style_strength = -1.5) {
  MergeInput subject{.role = LoraRole::kSubject, .weights = {}, .strength = subject_strength};
  subject.weights.layers[kToQ] = low_rank({8, 8}, 2, 1);
  subject.weights.layers[kConv] = low_rank({8, 4, 3, 3}, 3, 2);
  subject.weights.layers[kToK] = low_rank({8, 6}, 2, 3);
  MergeInput style{.role = LoraRole::kStyle, .weights = {}, .strength = style_strength};
  style.weights.layers[kToQ] = low_rank({8, 8}, 4, 4);
  style.weights.layers[kConv] = low_rank({8, 4, 3, 3}, 1, 5);
  style.weights.layers[kFc1] = low_rank({12, 6}, 2, 6);
  return {subject, style};
}

TEST(MergeMethods, AutoIsDirectAndEveryNameIsListed) {
  EXPECT_EQ(merge_method_names(), (std::vector<std::string>{"auto", "direct", "concat"}));
  EXPECT_EQ(resolve_merge_method("auto"), "direct");
  for (const MergeMethod& method : merge_methods()) {
    EXPECT_EQ(resolve_merge_method(std::string(method.name)), method.name);
    EXPECT_FALSE(method.summary.empty());
  }
}

TEST(MergeMethods, AnUnknownNameIsRefusedWithTheKnownOnes) {
  test::expect_error<ConfigError>([] { resolve_merge_method("sum"); },
                                  {"'sum'", "auto, direct, concat"});
  test::expect_error<ConfigError>([] { merge_loras("sum", two_roles()); }, {"'sum'"});
}

class ExactMerge : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Methods, ExactMerge, testing::Values("direct", "concat", "auto"));

TEST_P(ExactMerge, IsTheSumOfTheChangesTimesTheirStrengths) {
  const auto inputs = two_roles();
  const LoraWeights merged = merge_loras(GetParam(), inputs);
  ASSERT_EQ(merged.layers.size(), 4U);
  for (const auto& [name, layer] : merged.layers) {
    Tensor wanted = torch::zeros(layer.weight_shape);
    for (const MergeInput& input : inputs)
      if (input.weights.layers.contains(name))
        wanted += input.strength * input.weights.layers.at(name).delta();
    EXPECT_TRUE(is_close(layer.delta(), wanted, kRounding)) << name.module;
  }
  EXPECT_EQ(merged.layers.at(kToK).weight_shape, (std::vector<int64_t>{8, 6}));
}

TEST_P(ExactMerge, FusesLikeTheFilesFusedTogether) {
  const auto inputs = two_roles();
  FakeModel together = small_model(), merged_model = small_model();
  LoraFuser first(together.layers, together.source()),
      second(merged_model.layers, merged_model.source());
  first.attach(
      {{&inputs[0].weights, inputs[0].strength}, {&inputs[1].weights, inputs[1].strength}});
  const LoraWeights merged = merge_loras(GetParam(), inputs);
  second.attach({{&merged}});
  for (const auto& [name, weight] : together.originals())
    EXPECT_TRUE(
        is_close(merged_model.layer(name).weight(), together.layer(name).weight(), kRounding))
        << name.module;
}

TEST_P(ExactMerge, TakesAnyNumberOfFilesOfAnyKind) {
  FakeModel model = tiny_model("sd15-tiny");
  std::vector<MergeInput> inputs;
  for (const char* name : {"sd15-kohya/lora.safetensors", "sd15-peft-loha", "sd15-peft-lokr",
                           "sd15-diffusers/lora.safetensors"})
    inputs.push_back(
        {.weights = load_lora(golden(std::string("lora/") + name), model.layers), .strength = 0.5});
  const LoraWeights merged = merge_loras(GetParam(), inputs);
  size_t shared_by_all = 0;
  for (const auto& [name, layer] : merged.layers) {
    Tensor wanted = torch::zeros(layer.weight_shape);
    size_t num_inputs = 0;
    for (const MergeInput& input : inputs)
      if (input.weights.layers.contains(name)) {
        wanted += 0.5 * input.weights.layers.at(name).delta();
        ++num_inputs;
      }
    shared_by_all += num_inputs == inputs.size();
    EXPECT_TRUE(is_close(layer.delta(), wanted, {.atol = 2e-5, .rtol = 1e-4})) << name.module;
  }
  EXPECT_GT(shared_by_all, 0U);
}

TEST_P(ExactMerge, OfOneFileIsThatFile) {
  auto inputs = two_roles(1.0);
  inputs.pop_back();
  const LoraWeights merged = merge_loras(GetParam(), inputs);
  for (const auto& [name, layer] : inputs[0].weights.layers)
    EXPECT_TRUE(is_close(merged.layers.at(name).delta(), layer.delta(), kRounding)) << name.module;
}

TEST(ConcatMerge, FactorsAreThoseOfTheFilesSideBySide) {
  const auto inputs = two_roles();
  const LoraWeights merged = merge_loras("concat", inputs);
  const auto& factors = std::get<LowRankFactors>(merged.layers.at(kToQ).factors);
  const auto& subject = std::get<LowRankFactors>(inputs[0].weights.layers.at(kToQ).factors);
  const auto& style = std::get<LowRankFactors>(inputs[1].weights.layers.at(kToQ).factors);
  EXPECT_EQ(merged.layers.at(kToQ).scale, 1.0);
  EXPECT_TRUE(at::equal(factors.up, at::cat({subject.up, style.up}, 1)));
  const double subject_scale = 0.75 * inputs[0].weights.layers.at(kToQ).scale;
  const double style_scale = -1.5 * inputs[1].weights.layers.at(kToQ).scale;
  EXPECT_TRUE(is_close(factors.down,
                       at::cat({subject_scale * subject.down, style_scale * style.down}, 0),
                       kRounding));
}

TEST(ConcatMerge, ConvolutionsKeepTheirShapeAndRanksAdd) {
  const LoraWeights merged = merge_loras("concat", two_roles());
  const auto& factors = std::get<LowRankFactors>(merged.layers.at(kConv).factors);
  EXPECT_EQ(factors.down.sizes(), (std::vector<int64_t>{4, 4, 3, 3}));
  EXPECT_EQ(factors.up.sizes(), (std::vector<int64_t>{8, 4, 1, 1}));
  EXPECT_EQ(merged.layers.at(kToQ).rank(), 6);
  EXPECT_EQ(merged.layers.at(kFc1).rank(), 2);
}

TEST(DirectMerge, SharesTheFactorsOfItsInputs) {
  const auto inputs = two_roles();
  const LoraWeights merged = merge_loras("direct", inputs);
  const auto& sum = std::get<LoraSum>(merged.layers.at(kToQ).factors);
  ASSERT_EQ(sum.terms.size(), 2U);
  const auto& ours = std::get<LowRankFactors>(sum.terms[0].factors);
  const auto& theirs = std::get<LowRankFactors>(inputs[0].weights.layers.at(kToQ).factors);
  EXPECT_TRUE(ours.down.is_same(theirs.down));
  EXPECT_EQ(merged.key_family, "merged (direct)");
}

TEST(MergeLoras, RefusesWhatCannotBeMerged) {
  test::expect_error<Error>([] { merge_loras("direct", {}); }, {"at least one"});
  auto inputs = two_roles(NAN);
  inputs[0].weights.path = "dog.safetensors";
  test::expect_error<Error>([&] { merge_loras("direct", inputs); },
                            {"dog.safetensors", "nan", "finite"});
  inputs = two_roles();
  inputs[0].weights.path = "dog.safetensors";
  inputs[1].weights.path = "ink.safetensors";
  inputs[1].weights.layers[kToQ] = low_rank({8, 4}, 2, 1);
  test::expect_error<Error>(
      [&] { merge_loras("concat", inputs); },
      {"dog.safetensors", "ink.safetensors", kToQ.module, "[8, 8]", "[8, 4]"});
}

TEST(RoleName, IsWhatTheCommandLineCallsIt) {
  EXPECT_EQ(role_name(LoraRole::kSubject), "subject");
  EXPECT_EQ(role_name(LoraRole::kStyle), "style");
  EXPECT_EQ(role_name(LoraRole::kOther), "lora");
}

}  // namespace
}  // namespace molar
