#include "molar/adapters/lora.h"

#include "lora_fixtures.h"

namespace molar {
namespace {

using test::noise;

// Products of float32 factors in another order of sums.
constexpr Tolerance kRounding{.atol = 1e-5, .rtol = 1e-5};

LoraLayer layer_of(decltype(LoraLayer::factors) factors, std::vector<int64_t> shape,
                   double scale = 0.5) {
  LoraLayer layer;
  layer.factors = std::move(factors);
  layer.weight_shape = std::move(shape);
  layer.scale = scale;
  return layer;
}

/// One layer of every kind, [6, 4] or [6, 4, 3, 3].
std::map<std::string, LoraLayer> layers_of_every_kind() {
  const std::vector<int64_t> linear{6, 4}, kernel{6, 4, 3, 3};
  std::map<std::string, LoraLayer> layers;
  layers["linear"] =
      layer_of(LowRankFactors{.down = noise({2, 4}, 1), .up = noise({6, 2}, 2), .mid = {}}, linear);
  layers["linear as 1x1 convolution"] = layer_of(
      LowRankFactors{.down = noise({2, 4, 1, 1}, 1), .up = noise({6, 2, 1, 1}, 2), .mid = {}},
      linear);
  layers["1x1 convolution as linear"] = layer_of(
      LowRankFactors{.down = noise({2, 4}, 1), .up = noise({6, 2}, 2), .mid = {}}, {6, 4, 1, 1});
  layers["convolution"] = layer_of(
      LowRankFactors{.down = noise({2, 4, 3, 3}, 1), .up = noise({6, 2, 1, 1}, 2), .mid = {}},
      kernel);
  layers["CP convolution"] = layer_of(LowRankFactors{.down = noise({2, 4, 1, 1}, 1),
                                                     .up = noise({6, 3, 1, 1}, 2),
                                                     .mid = noise({3, 2, 3, 3}, 3)},
                                      kernel);
  HadamardFactors loha{.w1_a = noise({6, 1}, 1),
                       .w1_b = noise({1, 4}, 2),
                       .w2_a = noise({6, 1}, 3),
                       .w2_b = noise({1, 4}, 4),
                       .t1 = {},
                       .t2 = {}};
  layers["LoHa"] = layer_of(loha, linear);
  loha = {.w1_a = noise({6, 3}, 1),
          .w1_b = noise({3, 4}, 2),
          .w2_a = noise({6, 3}, 3),
          .w2_b = noise({3, 4}, 4),
          .t1 = {},
          .t2 = {}};
  layers["LoHa of full rank"] = layer_of(loha, linear);
  loha = {.w1_a = noise({6, 2}, 1),
          .w1_b = noise({2, 36}, 2),
          .w2_a = noise({6, 2}, 3),
          .w2_b = noise({2, 36}, 4),
          .t1 = {},
          .t2 = {}};
  layers["LoHa convolution"] = layer_of(loha, kernel);
  loha = {.w1_a = noise({2, 6}, 1),
          .w1_b = noise({2, 4}, 2),
          .w2_a = noise({2, 6}, 3),
          .w2_b = noise({2, 4}, 4),
          .t1 = noise({2, 2, 3, 3}, 5),
          .t2 = noise({2, 2, 3, 3}, 6)};
  layers["LoHa CP convolution"] = layer_of(loha, kernel);
  KroneckerFactors lokr;
  lokr.w1 = noise({2, 2}, 1);
  lokr.w2 = noise({3, 2}, 2);
  layers["LoKr of whole factors"] = layer_of(lokr, linear);
  lokr = {};
  lokr.w1 = noise({2, 2}, 1);
  lokr.w2_a = noise({3, 1}, 2);
  lokr.w2_b = noise({1, 2}, 3);
  layers["LoKr"] = layer_of(lokr, linear);
  lokr = {};
  lokr.w1_a = noise({2, 1}, 1);
  lokr.w1_b = noise({1, 2}, 2);
  lokr.w2_a = noise({3, 1}, 3);
  lokr.w2_b = noise({1, 18}, 4);
  layers["LoKr convolution"] = layer_of(lokr, kernel);
  lokr = {};
  lokr.w1 = noise({2, 2}, 1);
  lokr.w2_a = noise({2, 3}, 2);
  lokr.w2_b = noise({2, 2}, 3);
  lokr.t2 = noise({2, 2, 3, 3}, 4);
  layers["LoKr CP convolution"] = layer_of(lokr, kernel);
  LoraSum sum{{layers["convolution"], layers["LoHa convolution"], layers["CP convolution"]}};
  layers["sum"] = layer_of(sum, kernel);
  return layers;
}

double at(const Tensor& tensor, std::initializer_list<int64_t> place) {
  Tensor value = tensor;
  for (const int64_t index : place) value = value[index];
  return value.item<double>();
}

TEST(LoraLayer, LinearChangeIsScaleTimesUpTimesDown) {
  const LoraLayer layer = layers_of_every_kind()["linear"];
  const auto& f = std::get<LowRankFactors>(layer.factors);
  const Tensor delta = layer.delta();
  for (int64_t o = 0; o < 6; ++o)
    for (int64_t i = 0; i < 4; ++i) {
      double sum = 0;
      for (int64_t r = 0; r < 2; ++r) sum += at(f.up, {o, r}) * at(f.down, {r, i});
      EXPECT_NEAR(at(delta, {o, i}), 0.5 * sum, 1e-5);
    }
}

TEST(LoraLayer, ConvolutionChangeIsSummedOverTheRankAtEveryTap) {
  const LoraLayer layer = layers_of_every_kind()["convolution"];
  const auto& f = std::get<LowRankFactors>(layer.factors);
  const Tensor delta = layer.delta();
  for (int64_t o = 0; o < 6; ++o)
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t tap = 0; tap < 9; ++tap) {
        const int64_t y = tap / 3, x = tap % 3;
        double sum = 0;
        for (int64_t r = 0; r < 2; ++r) sum += at(f.up, {o, r, 0, 0}) * at(f.down, {r, i, y, x});
        EXPECT_NEAR(at(delta, {o, i, y, x}), 0.5 * sum, 1e-5);
      }
}

TEST(LoraLayer, MiddleFactorOfAConvolutionJoinsUpAndDown) {
  const LoraLayer layer = layers_of_every_kind()["CP convolution"];
  const auto& f = std::get<LowRankFactors>(layer.factors);
  const Tensor delta = layer.delta();
  for (int64_t o = 0; o < 6; ++o)
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t tap = 0; tap < 9; ++tap) {
        const int64_t y = tap / 3, x = tap % 3;
        double sum = 0;
        for (int64_t m = 0; m < 3; ++m)
          for (int64_t n = 0; n < 2; ++n)
            sum += at(f.up, {o, m, 0, 0}) * at(f.mid, {m, n, y, x}) * at(f.down, {n, i, 0, 0});
        EXPECT_NEAR(at(delta, {o, i, y, x}), 0.5 * sum, 1e-5);
      }
}

TEST(LoraLayer, LoHaChangeIsTheElementwiseProductOfTwoProducts) {
  const LoraLayer layer = layers_of_every_kind()["LoHa of full rank"];
  const auto& f = std::get<HadamardFactors>(layer.factors);
  const Tensor delta = layer.delta();
  for (int64_t o = 0; o < 6; ++o)
    for (int64_t i = 0; i < 4; ++i) {
      double first = 0, second = 0;
      for (int64_t r = 0; r < 3; ++r) {
        first += at(f.w1_a, {o, r}) * at(f.w1_b, {r, i});
        second += at(f.w2_a, {o, r}) * at(f.w2_b, {r, i});
      }
      EXPECT_NEAR(at(delta, {o, i}), 0.5 * first * second, 1e-5);
    }
}

TEST(LoraLayer, LoHaCoreStandsBetweenItsFactors) {
  const LoraLayer layer = layers_of_every_kind()["LoHa CP convolution"];
  const auto& f = std::get<HadamardFactors>(layer.factors);
  const Tensor delta = layer.delta();
  const auto side = [&](const Tensor& core, const Tensor& a, const Tensor& b, int64_t o, int64_t i,
                        int64_t y, int64_t x) {
    double sum = 0;
    for (int64_t p = 0; p < 2; ++p)
      for (int64_t q = 0; q < 2; ++q) sum += at(core, {p, q, y, x}) * at(a, {p, o}) * at(b, {q, i});
    return sum;
  };
  for (int64_t o = 0; o < 6; ++o)
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t tap = 0; tap < 9; ++tap) {
        const int64_t y = tap / 3, x = tap % 3;
        const double wanted =
            side(f.t1, f.w1_a, f.w1_b, o, i, y, x) * side(f.t2, f.w2_a, f.w2_b, o, i, y, x);
        EXPECT_NEAR(at(delta, {o, i, y, x}), 0.5 * wanted, 1e-4);
      }
}

TEST(LoraLayer, LoKrChangeIsAKroneckerProductAtEveryTap) {
  const LoraLayer layer = layers_of_every_kind()["LoKr convolution"];
  const auto& f = std::get<KroneckerFactors>(layer.factors);
  const Tensor delta = layer.delta();
  for (int64_t o = 0; o < 6; ++o)
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t tap = 0; tap < 9; ++tap) {
        const double first = at(f.w1_a, {o / 3, 0}) * at(f.w1_b, {0, i / 2});
        const double second = at(f.w2_a, {o % 3, 0}) * at(f.w2_b, {0, (i % 2) * 9 + tap});
        EXPECT_NEAR(at(delta, {o, i, tap / 3, tap % 3}), 0.5 * first * second, 1e-5);
      }
}

TEST(LoraLayer, LoKrCoreStandsInItsSecondFactor) {
  const LoraLayer layer = layers_of_every_kind()["LoKr CP convolution"];
  const auto& f = std::get<KroneckerFactors>(layer.factors);
  const Tensor delta = layer.delta();
  for (int64_t o = 0; o < 6; ++o)
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t tap = 0; tap < 9; ++tap) {
        double second = 0;
        for (int64_t p = 0; p < 2; ++p)
          for (int64_t q = 0; q < 2; ++q)
            second += at(f.t2, {p, q, tap / 3, tap % 3}) * at(f.w2_a, {p, o % 3}) *
                      at(f.w2_b, {q, i % 2});
        EXPECT_NEAR(at(delta, {o, i, tap / 3, tap % 3}), 0.5 * at(f.w1, {o / 3, i / 2}) * second,
                    1e-5);
      }
}

TEST(LoraLayer, MatricesMultiplyToTheChangeForEveryKind) {
  for (const auto& [name, layer] : layers_of_every_kind()) {
    const LoraMatrices matrices = layer.matrices();
    EXPECT_TRUE(is_close(at::matmul(matrices.up, matrices.down).reshape(layer.weight_shape),
                         layer.delta(), kRounding))
        << name;
  }
}

TEST(LoraLayer, MatricesHaveTheSmallestExactRank) {
  const auto layers = layers_of_every_kind();
  const std::map<std::string, int64_t> wanted{{"linear", 2},
                                              {"LoHa", 1},
                                              {"LoHa of full rank", 4},
                                              {"LoHa convolution", 4},
                                              {"LoHa CP convolution", 6},
                                              {"LoKr", 2},
                                              {"LoKr of whole factors", 4},
                                              {"LoKr convolution", 2},
                                              {"CP convolution", 3},
                                              {"sum", 2 + 4 + 3}};
  for (const auto& [name, rank] : wanted)
    EXPECT_EQ(layers.at(name).matrices().down.size(0), rank) << name;
}

TEST(LoraLayer, RankIsTheOneThatAlphaIsDividedBy) {
  const auto layers = layers_of_every_kind();
  const std::map<std::string, int64_t> wanted{{"linear", 2},
                                              {"convolution", 2},
                                              {"CP convolution", 2},
                                              {"LoHa convolution", 2},
                                              {"LoHa CP convolution", 2},
                                              {"LoKr", 1},
                                              {"LoKr CP convolution", 2},
                                              {"LoKr of whole factors", 4},
                                              {"sum", 6}};
  for (const auto& [name, rank] : wanted) EXPECT_EQ(layers.at(name).rank(), rank) << name;
}

TEST(LoraLayer, AddsTheSameChangeToContiguousAndChannelsLastWeights) {
  for (const auto& [name, layer] : layers_of_every_kind()) {
    const Tensor weight = noise(layer.weight_shape, 9);
    const Tensor wanted = weight + 0.25 * layer.delta();
    Tensor contiguous = weight.clone();
    layer.add_delta_to_(contiguous, 0.25);
    EXPECT_TRUE(is_close(contiguous, wanted, kRounding)) << name;
    if (weight.dim() != 4) continue;
    Tensor channels_last = weight.clone(at::MemoryFormat::ChannelsLast);
    layer.add_delta_to_(channels_last, 0.25);
    EXPECT_TRUE(is_close(channels_last, wanted, kRounding)) << name << ", channels-last";
  }
}

TEST(LoraLayer, HalfPrecisionFactorsMultiplyInFloat32) {
  const Tensor down = noise({2, 4}, 1).to(at::kHalf), up = noise({6, 2}, 2).to(at::kHalf);
  const LoraLayer layer = layer_of(LowRankFactors{.down = down, .up = up, .mid = {}}, {6, 4}, 1.0);
  EXPECT_EQ(layer.delta().scalar_type(), at::kFloat);
  EXPECT_TRUE(is_close(layer.delta(), at::matmul(up.to(at::kFloat), down.to(at::kFloat)),
                       {.atol = 0, .rtol = 1e-6}));
}

TEST(LoraLayer, RefusesAWeightOfAnotherShapeOrType) {
  const LoraLayer layer = layers_of_every_kind()["linear"];
  test::expect_error<Error>([&] { layer.add_delta_to_(torch::zeros({4, 6}), 1.0); },
                            {"internal", "[6, 4]", "[4, 6]"});
  test::expect_error<Error>([&] { layer.add_delta_to_(torch::zeros({6, 4}, at::kHalf), 1.0); },
                            {"internal", "float16"});
}

TEST(LoraLayer, TensorsAreTheDefinedFactors) {
  const auto layers = layers_of_every_kind();
  EXPECT_EQ(layers.at("linear").tensors().size(), 2);
  EXPECT_EQ(layers.at("CP convolution").tensors().size(), 3);
  EXPECT_EQ(layers.at("LoHa CP convolution").tensors().size(), 6);
  EXPECT_EQ(layers.at("LoKr").tensors().size(), 3);
  EXPECT_EQ(layers.at("sum").tensors().size(), 2 + 4 + 3);
}

}  // namespace
}  // namespace molar
