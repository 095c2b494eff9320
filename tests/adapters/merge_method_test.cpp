#include "molar/adapters/merge/merge_method.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "lora_fixtures.h"
#include "molar/adapters/lora_fuser.h"
#include "molar/adapters/lora_io.h"
#include "molar/adapters/low_rank.h"
#include "molar/io/hash.h"

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

/// The network of these tests: heads for kToQ's eight rows.
Hypernetwork small_network(const std::map<std::string, std::string>& metadata = {}) {
  const test::TempFolder folder;
  return Hypernetwork::load(test::write_tensors(folder, "hypernet.safetensors",
                                                {{"input_1.weight", noise({16, 16}, 21)},
                                                 {"input_1.bias", noise({16}, 22)},
                                                 {"output.1.weight", noise({2, 16}, 23)},
                                                 {"output.1.bias", noise({2}, 24)}},
                                                metadata));
}

TEST(MergeMethods, AutoPredictsWhereItCanAndProjectsElsewhere) {
  EXPECT_EQ(resolve_merge_method("auto", {.hypernetwork = true}), "lorarar");
  EXPECT_EQ(resolve_merge_method("auto", {}), "np");
  for (const MergeMethod& method : merge_methods()) {
    EXPECT_EQ(resolve_merge_method(std::string(method.name),
                                   {.hypernetwork = true, .coefficients = true}),
              method.name);
    EXPECT_FALSE(method.summary.empty());
  }
}

TEST(MergeMethods, AnUnknownNameIsRefusedWithTheKnownOnes) {
  test::expect_error<ConfigError>([] { resolve_merge_method("sum", {}); },
                                  {"'sum'", "auto, lorarar, ziplora, np, direct, concat"});
  test::expect_error<ConfigError>([] { merge_loras("sum", two_roles()); }, {"'sum'"});
}

TEST(MergeMethods, NothingStandsInForAMissingHypernetwork) {
  test::expect_error<ConfigError>([] { resolve_merge_method("lorarar", {.coefficients = true}); },
                                  {"--hypernet"});
  test::expect_error<ConfigError>([] { resolve_merge_method("ziplora", {.hypernetwork = true}); },
                                  {"--coefficients FILE", "molar train ziplora"});
  test::expect_error<ConfigError>([] { merge_loras("lorarar", two_roles()); }, {"--hypernet"});
}

class ExactMerge : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Methods, ExactMerge, testing::Values("direct", "concat"));

TEST_P(ExactMerge, IsTheSumOfTheChangesTimesTheirStrengths) {
  const auto inputs = two_roles();
  const LoraWeights merged = merge_loras(GetParam(), inputs).weights;
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
  const LoraWeights merged = merge_loras(GetParam(), inputs).weights;
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
  const LoraWeights merged = merge_loras(GetParam(), inputs).weights;
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
  const LoraWeights merged = merge_loras(GetParam(), inputs).weights;
  for (const auto& [name, layer] : inputs[0].weights.layers)
    EXPECT_TRUE(is_close(merged.layers.at(name).delta(), layer.delta(), kRounding)) << name.module;
}

TEST(ConcatMerge, FactorsAreThoseOfTheFilesSideBySide) {
  const auto inputs = two_roles();
  const LoraWeights merged = merge_loras("concat", inputs).weights;
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
  const LoraWeights merged = merge_loras("concat", two_roles()).weights;
  const auto& factors = std::get<LowRankFactors>(merged.layers.at(kConv).factors);
  EXPECT_EQ(factors.down.sizes(), (std::vector<int64_t>{4, 4, 3, 3}));
  EXPECT_EQ(factors.up.sizes(), (std::vector<int64_t>{8, 4, 1, 1}));
  EXPECT_EQ(merged.layers.at(kToQ).rank(), 6);
  EXPECT_EQ(merged.layers.at(kFc1).rank(), 2);
}

TEST(DirectMerge, SharesTheFactorsOfItsInputs) {
  const auto inputs = two_roles();
  const LoraWeights merged = merge_loras("direct", inputs).weights;
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

/// Every rule's own part: layers that one input alone has.
void expect_single_layers(const MergedLora& merged, const std::vector<MergeInput>& inputs) {
  EXPECT_EQ(merged.weights.layers.size(), 4U);
  EXPECT_EQ(merged.layers.at(kToK).rule, "subject");
  EXPECT_EQ(merged.layers.at(kFc1).rule, "style");
  EXPECT_TRUE(is_close(merged.weights.layers.at(kToK).delta(),
                       inputs[0].strength * inputs[0].weights.layers.at(kToK).delta(), kRounding));
  EXPECT_TRUE(is_close(merged.weights.layers.at(kFc1).delta(),
                       inputs[1].strength * inputs[1].weights.layers.at(kFc1).delta(), kRounding));
}

TEST(NpMerge, TakesTheStylesRowsOutOfTheSubject) {
  for (const bool swapped : {false, true}) {  // roles count, not places
    auto inputs = two_roles();
    if (swapped) std::swap(inputs[0], inputs[1]);
    const MergeInput& subject = inputs[swapped ? 1 : 0];
    const MergeInput& style = inputs[swapped ? 0 : 1];
    const MergedLora merged = merge_loras("np", inputs, {.projection = 0.75});
    for (const LayerName& name : {kToQ, kConv}) {
      const Tensor s = subject.weights.layers.at(name).delta().flatten(1);
      const Tensor t = style.weights.layers.at(name).delta().flatten(1);
      const Tensor onto_rows = at::linalg_pinv(t).matmul(t);  // the projection, another way
      const Tensor wanted =
          style.strength * t + subject.strength * (s - 0.75 / 1.75 * s.matmul(onto_rows));
      EXPECT_TRUE(is_close(merged.weights.layers.at(name).delta().flatten(1), wanted,
                           {.atol = 1e-4, .rtol = 1e-4}))
          << name.module;
      EXPECT_EQ(merged.layers.at(name).rule, "projected");
    }
    if (!swapped) expect_single_layers(merged, inputs);
  }
}

TEST(NpMerge, WithoutProjectionIsTheSum) {
  const auto inputs = two_roles();
  const LoraWeights np = merge_loras("np", inputs, {.projection = 0}).weights;
  const LoraWeights sum = merge_loras("direct", inputs).weights;
  for (const auto& [name, layer] : sum.layers)
    EXPECT_TRUE(is_close(np.layers.at(name).delta(), layer.delta(), kRounding)) << name.module;
}

TEST(LoraRarMerge, WeighsColumnsOfWhatTheNetworkCovers) {
  const Hypernetwork network = small_network();
  for (const bool swapped : {false, true}) {
    auto inputs = two_roles();
    if (swapped) std::swap(inputs[0], inputs[1]);
    const MergeInput& subject = inputs[swapped ? 1 : 0];
    const MergeInput& style = inputs[swapped ? 0 : 1];
    const MergedLora merged = merge_loras("lorarar", inputs, {.hypernetwork = &network});
    const LoraLayer &s = subject.weights.layers.at(kToQ), &t = style.weights.layers.at(kToQ);
    const Tensor m = network.predict(kToQ, s.matrices(), t.matrices()).coefficients;
    const Tensor wanted = subject.strength * s.delta() * m[0] + style.strength * t.delta() * m[1];
    EXPECT_TRUE(
        is_close(merged.weights.layers.at(kToQ).delta(), wanted, {.atol = 1e-4, .rtol = 1e-4}));
    EXPECT_EQ(merged.weights.layers.at(kToQ).rank(), 6);
    EXPECT_TRUE(is_close(merged.layers.at(kToQ).coefficients, m, kRounding));
    EXPECT_EQ(merged.layers.at(kConv).rule, "sum") << "a layer that it does not cover";
    EXPECT_EQ(merged.summary(), "predicted 1, style 1, subject 1, sum 1");
    if (!swapped) expect_single_layers(merged, inputs);
  }
}

/// Before it has learnt anything.
Hypernetwork new_feature_network() {
  StateDict tensors;
  for (const auto& [name, plan] : hypernet_tensors(HypernetLayout::kFeatures, {}, 8)) {
    tensors[name] = noise(plan.shape, 1);
    if (!plan.start.empty())
      tensors[name] = torch::tensor(plan.start, torch::kFloat).view(plan.shape);
  }
  return Hypernetwork::from_tensors(tensors, "new.safetensors");
}

TEST(LoraRarMerge, ByANewNetworkOfFeaturesIsNp) {
  const Hypernetwork network = new_feature_network();
  const auto inputs = two_roles();
  const MergedLora found = merge_loras("lorarar", inputs, {.hypernetwork = &network});
  const MergedLora np = merge_loras("np", inputs);
  EXPECT_EQ(found.summary(), "predicted 2, style 1, subject 1");
  for (const auto& [name, layer] : np.weights.layers)
    EXPECT_TRUE(is_close(found.weights.layers.at(name).delta(), layer.delta(),
                         {.atol = 1e-4, .rtol = 1e-4}))
        << name.module;
}

TEST(LoraRarMerge, WeighsAndProjectsAsTheNetworkOfFeaturesSays) {
  StateDict tensors;
  for (const auto& [name, plan] : hypernet_tensors(HypernetLayout::kFeatures, {}, 8))
    tensors[name] = noise(plan.shape, tensors.size() + 1);
  const auto network = Hypernetwork::from_tensors(tensors, "h.safetensors");
  const auto inputs = two_roles();
  const MergedLora merged = merge_loras("lorarar", inputs, {.hypernetwork = &network});
  for (const LayerName& name : {kToQ, kConv}) {
    const LoraLayer &subject = inputs[0].weights.layers.at(name),
                    &style = inputs[1].weights.layers.at(name);
    const auto [m, share] = network.predict(name, subject.matrices(), style.matrices());
    const Tensor s = subject.delta().flatten(1), t = style.delta().flatten(1);
    const Tensor weighed = s * m[0];
    const Tensor left = weighed - share * weighed.matmul(at::linalg_pinv(t)).matmul(t);
    EXPECT_TRUE(is_close(merged.weights.layers.at(name).delta().flatten(1),
                         inputs[0].strength * left + inputs[1].strength * t * m[1],
                         {.atol = 1e-3, .rtol = 1e-3}))
        << name.module;
  }
}

TEST(LoraRarMerge, KeysAndValuesAreSummedOrAveraged) {
  auto inputs = two_roles();
  inputs[1].weights.layers[kToK] = low_rank({8, 6}, 3, 9);
  const Tensor sum = merge_loras("direct", inputs).weights.layers.at(kToK).delta();
  const Hypernetwork plain = small_network(), mean = small_network({{"molar.key_value", "mean"}});
  const auto merged = [&](const MergeOptions& options) {
    return merge_loras("lorarar", inputs, options);
  };
  EXPECT_TRUE(
      is_close(merged({.hypernetwork = &plain}).weights.layers.at(kToK).delta(), sum, kRounding));
  const MergedLora averaged = merged({.hypernetwork = &mean});
  EXPECT_TRUE(is_close(averaged.weights.layers.at(kToK).delta(), sum / 2, kRounding));
  EXPECT_EQ(averaged.layers.at(kToK).rule, "mean");
  const MergeOptions asked{.hypernetwork = &mean, .key_value = KeyValueMode::kSum};
  EXPECT_TRUE(is_close(merged(asked).weights.layers.at(kToK).delta(), sum, kRounding));
}

TEST(LoraRarMerge, RefusesANetworkOfAnotherModel) {
  const Hypernetwork network = small_network();
  auto inputs = two_roles();
  for (MergeInput& input : inputs) input.weights.layers.erase(kToQ);
  const std::initializer_list<std::string_view> says{"hypernet.safetensors", "8 outputs",
                                                     "trained for this model"};
  const MergeOptions options{.hypernetwork = &network};
  test::expect_error<FitError>([&] { merge_loras("lorarar", inputs, options); }, says);
  test::expect_error<FitError>([&] { check_merge("lorarar", inputs, options); }, says);
}

/// Two roles as if they had been read from files, and coefficients of those for kToQ.
struct ZippedRoles {
  ZippedRoles() {
    for (auto& [input, hash] : {std::pair{&inputs[0], &coefficients.subject_sha256},
                                {&inputs[1], &coefficients.style_sha256}}) {
      input->weights.path =
          test::write_tensors(folder, fmt::format("{}.safetensors", role_name(input->role)),
                              {{"x", noise({2}, static_cast<uint64_t>(input->role) + 1)}});
      *hash = sha256_safetensors_data(input->weights.path);
    }
    coefficients.layers[kToQ] = noise({2, 8}, 31);
  }
  MergedLora merge() const {
    return merge_loras("ziplora", inputs, {.coefficients = &coefficients});
  }

  test::TempFolder folder;
  std::vector<MergeInput> inputs = two_roles(0.5, 2);
  MergeCoefficients coefficients;
};

TEST(ZiploraMerge, WeighsColumnsByWhatWasLearnt) {
  const ZippedRoles roles;
  const MergedLora merged = roles.merge();
  const auto delta = [&](size_t i, const LayerName& name) {
    return roles.inputs[i].weights.layers.at(name).delta() * roles.inputs[i].strength;
  };
  const Tensor& m = roles.coefficients.layers.at(kToQ);
  EXPECT_TRUE(is_close(merged.weights.layers.at(kToQ).delta(),
                       delta(0, kToQ) * m[0] + delta(1, kToQ) * m[1], kRounding));
  EXPECT_TRUE(is_close(merged.weights.layers.at(kConv).delta(), delta(0, kConv) + delta(1, kConv),
                       kRounding));
  EXPECT_EQ(merged.summary(), "learnt 1, style 1, subject 1, sum 1");
  EXPECT_TRUE(at::equal(merged.layers.at(kToQ).coefficients, m));
}

TEST(ZiploraMerge, RefusesCoefficientsOfOtherFilesAndLayers) {
  ZippedRoles roles;
  std::swap(roles.coefficients.subject_sha256, roles.coefficients.style_sha256);
  test::expect_error<FitError>([&] { roles.merge(); },
                               {"learnt for another subject", "subject.safetensors"});
  std::swap(roles.coefficients.subject_sha256, roles.coefficients.style_sha256);
  roles.coefficients.layers[kConv] = noise({2, 8}, 32);
  test::expect_error<FitError>([&] { roles.merge(); }, {kConv.module, "[8, 4, 3, 3]"});
  roles.coefficients.layers.erase(kConv);
  roles.coefficients.layers[kFc1] = noise({2, 6}, 33);
  test::expect_error<FitError>([&] { roles.merge(); }, {kFc1.module, "both"});
}

TEST(MergeCoefficients, AreReadAsTheyWereWritten) {
  ZippedRoles roles;
  const LoraFileContent content = roles.coefficients.content();
  const auto path =
      test::write_tensors(roles.folder, "c.safetensors", content.tensors, content.metadata);
  const auto found = MergeCoefficients::load(path);
  EXPECT_EQ(found.subject_sha256, roles.coefficients.subject_sha256);
  EXPECT_EQ(found.style_sha256, roles.coefficients.style_sha256);
  ASSERT_EQ(found.layers.size(), 1U);
  EXPECT_TRUE(at::equal(found.layers.at(kToQ), roles.coefficients.layers.at(kToQ)));

  const auto refuse = [&](const StateDict& tensors, std::initializer_list<std::string_view> says) {
    const auto file =
        test::write_tensors(roles.folder, "bad.safetensors", tensors, content.metadata);
    test::expect_error<FileError>([&] { MergeCoefficients::load(file); }, says);
  };
  refuse({{"unet.a", noise({2, 8}, 1)}}, {"'unet.a'", "component/module"});
  refuse({{"unet/a", noise({3, 8}, 1)}}, {"'unet/a'", "[3, 8]"});
  refuse({{"unet/a", torch::full({2, 8}, NAN)}}, {"'unet/a'", "NaN"});
  test::expect_error<FileError>([&] { MergeCoefficients::load(roles.inputs[0].weights.path); },
                                {"no merge coefficients"});
}

TEST(MergeStrengths, OfSingleLayersMultiplyTheInputs) {
  std::vector<MergeInput> inputs = two_roles(0.5, 2);
  inputs[0].layer_strengths = {{kToQ, 0}, {kToK, -3}};
  for (const char* method : {"direct", "concat", "np"}) {
    const MergedLora merged = merge_loras(method, inputs);
    const auto& layers = merged.weights.layers;
    EXPECT_TRUE(
        is_close(layers.at(kToQ).delta(), inputs[1].weights.layers.at(kToQ).delta() * 2, kRounding))
        << method;
    EXPECT_TRUE(is_close(layers.at(kToK).delta(), inputs[0].weights.layers.at(kToK).delta() * -1.5,
                         kRounding))
        << method;
  }
}

TEST(SvdMerge, IsTheBestApproximationOfTheSum) {
  const auto inputs = two_roles();
  const LoraWeights sum = merge_loras("direct", inputs).weights;
  for (const std::optional<int64_t> rank : {std::optional<int64_t>(), std::optional<int64_t>(2)}) {
    const LoraWeights merged = merge_loras("svd", inputs, {.rank = rank}).weights;
    for (const auto& [name, highest] : {std::pair{kToQ, 4}, std::pair{kConv, 3}}) {
      const int64_t kept = rank.value_or(highest);
      EXPECT_EQ(merged.layers.at(name).rank(), kept);
      const Tensor whole = sum.layers.at(name).delta().flatten(1);
      const auto [left, values, right] = at::linalg_svd(whole, false);
      const Tensor best =
          (left.narrow(1, 0, kept) * values.narrow(0, 0, kept)).matmul(right.narrow(0, 0, kept));
      EXPECT_TRUE(
          is_close(merged.layers.at(name).delta().flatten(1), best, {.atol = 1e-4, .rtol = 1e-4}))
          << name.module;
    }
  }
}

TEST(MergeRank, HoldsForEveryMethod) {
  const Hypernetwork network = small_network();
  const ZippedRoles roles;
  for (const MergeMethod& method : merge_methods()) {
    const LoraWeights merged =
        merge_loras(std::string(method.name), roles.inputs,
                    {.hypernetwork = &network, .coefficients = &roles.coefficients, .rank = 2})
            .weights;
    for (const auto& [name, layer] : merged.layers)
      EXPECT_LE(layer.rank(), 2) << method.name << " " << name.module;
  }
}

TEST(TiesMerge, TrimsElectsAndAverages) {
  // One row each, so that values and their places can be read.
  const auto one_row = [](LoraRole role, std::vector<float> values, double strength) {
    MergeInput input{.role = role, .weights = {}, .strength = strength};
    const auto width = static_cast<int64_t>(values.size());
    input.weights.layers[kToQ] = plain_layer(
        {.down = torch::tensor(values).view({1, width}), .up = torch::ones({1, 1})}, {1, width});
    return input;
  };
  const std::vector<MergeInput> inputs = {
      one_row(LoraRole::kSubject, {4, -3, 0.5, 0.1, 2, -1}, 1.0),
      one_row(LoraRole::kStyle, {1, 5, -0.2, 6, -3, 0.1}, 0.5)};
  // Half of six values stay: {4, -3, ., ., 2, .} and {., 5, ., 6, -3, .}; signs: + + . + -.
  const LoraWeights merged = merge_loras("ties", inputs, {.density = 0.5}).weights;
  EXPECT_TRUE(is_close(merged.layers.at(kToQ).delta(),
                       torch::tensor({4.0F, 2.5F, 0.0F, 3.0F, -1.5F, 0.0F}).view({1, 6}),
                       kRounding));
}

TEST(TiesMerge, OfEqualFilesWithoutTrimmingIsThatFile) {
  auto inputs = two_roles(1.0, 1.0);
  inputs[1].weights = inputs[0].weights;
  const LoraWeights merged = merge_loras("ties", inputs, {.density = 1}).weights;
  for (const auto& [name, layer] : inputs[0].weights.layers)
    EXPECT_TRUE(
        is_close(merged.layers.at(name).delta(), layer.delta(), {.atol = 1e-4, .rtol = 1e-4}));
}

TEST(DareMerge, KeepsTheSumOnAverageAndFollowsItsSeed) {
  const auto inputs = two_roles();
  const auto merged = [&](uint64_t seed, double density) {
    return merge_loras("dare", inputs, {.density = density, .seed = seed, .rank = 8})
        .weights.layers.at(kToQ)
        .delta();
  };
  const Tensor sum = merge_loras("direct", inputs).weights.layers.at(kToQ).delta();
  EXPECT_TRUE(is_close(merged(1, 1.0), sum, {.atol = 1e-4, .rtol = 1e-4})) << "nothing is dropped";
  EXPECT_TRUE(at::equal(merged(1, 0.5), merged(1, 0.5)));
  EXPECT_FALSE(is_close(merged(1, 0.5), merged(2, 0.5), kRounding));
  constexpr int kRuns = 400;
  Tensor mean = torch::zeros_like(sum);
  for (int seed = 0; seed < kRuns; ++seed) mean += merged(seed, 0.5) / kRuns;
  // A value's deviation is its own size at density 1/2; of the mean a twentieth of it.
  EXPECT_LT((mean - sum).abs().mean().item<double>(), 0.1 * sum.abs().mean().item<double>());
}

/// One file whose layers change by `values` [out, in].
MergeInput file_of(LoraRole role, const std::map<LayerName, Tensor>& values, double strength) {
  MergeInput input{.role = role, .weights = {}, .strength = strength};
  for (const auto& [name, value] : values)
    input.weights.layers[name] =
        plain_layer({.down = torch::eye(value.size(1)), .up = value}, value.sizes().vec());
  return input;
}

TEST(KloraMerge, EachLayerSwitchesWhenTheStyleOutgrowsTheSubject) {
  // Rank 1 each, so that S is the largest value; gamma = (4 + 2 + 1) / (4 + 4 + 6) = 1 / 2.
  const LayerName early{"unet", "a.attn1.to_k"}, middle{"unet", "a.attn1.to_q"},
      late{"unet", "a.attn1.to_v"};
  const auto row = [](float value) { return torch::tensor({{value}}); };
  const std::vector<MergeInput> inputs = {
      file_of(LoraRole::kSubject, {{early, row(1)}, {middle, row(2)}, {late, row(4)}}, 0.5),
      file_of(LoraRole::kStyle, {{early, row(6)}, {middle, row(4)}, {late, row(4)}}, 2)};
  const MergedLora merged = merge_loras("klora", inputs);
  // S_subject / (gamma S_style): 1/3 < beta, 1 and 2 = alpha + beta.
  ASSERT_EQ(merged.switches.size(), 1U);
  EXPECT_NEAR(merged.switches.at(middle).at, (1 - 0.5) / 1.5, 1e-6);
  EXPECT_NEAR(merged.switches.at(middle).then.delta().item<double>(), 8, 1e-6);
  EXPECT_NEAR(merged.weights.layers.at(middle).delta().item<double>(), 1, 1e-6);
  EXPECT_NEAR(merged.weights.layers.at(early).delta().item<double>(), 12, 1e-6);
  EXPECT_NEAR(merged.weights.layers.at(late).delta().item<double>(), 2, 1e-6);
  EXPECT_EQ(merged.summary(), "style throughout 1, subject throughout 1, subject, then style 1");
}

TEST(KloraMerge, SumsWhatIsNoAttention) {
  const auto inputs = two_roles();
  const MergedLora merged = merge_loras("klora", inputs);
  const LoraWeights sum = merge_loras("direct", inputs).weights;
  EXPECT_EQ(merged.layers.at(kConv).rule, "sum");
  EXPECT_TRUE(
      is_close(merged.weights.layers.at(kConv).delta(), sum.layers.at(kConv).delta(), kRounding));
  test::expect_error<ConfigError>([] { require_file_method("klora"); }, {"during sampling"});
  require_file_method("np");
}

TEST(MergeLoras, RefusesRolesThatAMethodLacks) {
  auto inputs = two_roles();
  inputs[1].role = LoraRole::kOther;
  test::expect_error<ConfigError>([&] { merge_loras("np", inputs); },
                                  {"'np'", "--subject", "--style", "1 and 0 of 2"});
  inputs = two_roles();
  inputs.push_back({.role = LoraRole::kOther, .weights = inputs[0].weights});
  test::expect_error<ConfigError>([&] { merge_loras("np", inputs); }, {"of 3 files"});
}

TEST(MergeLoras, RefusesOptionsOutOfRange) {
  test::expect_error<ConfigError>([] { merge_loras("ties", two_roles(), {.density = 0}); },
                                  {"--density 0"});
  test::expect_error<ConfigError>([] { merge_loras("ties", two_roles(), {.density = NAN}); },
                                  {"--density nan"});
  test::expect_error<ConfigError>([] { merge_loras("np", two_roles(), {.projection = -1}); },
                                  {"--np-mu -1"});
  test::expect_error<ConfigError>([] { merge_loras("svd", two_roles(), {.rank = 0}); },
                                  {"--rank 0"});
}

TEST(RoleName, IsWhatTheCommandLineCallsIt) {
  EXPECT_EQ(role_name(LoraRole::kSubject), "subject");
  EXPECT_EQ(role_name(LoraRole::kStyle), "style");
  EXPECT_EQ(role_name(LoraRole::kOther), "lora");
}

}  // namespace
}  // namespace molar
