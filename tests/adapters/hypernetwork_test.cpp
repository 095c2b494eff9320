#include "molar/adapters/hypernetwork.h"

#include "lora_fixtures.h"
#include "molar/adapters/column_features.h"
#include "molar/adapters/merge/merge_method.h"

namespace molar {
namespace {

using test::expect_error;
using test::kConv;
using test::kToK;
using test::kToQ;
using test::noise;
using test::TempFolder;
using test::write_tensors;

constexpr Tolerance kRounding{.atol = 1e-5, .rtol = 1e-5};
constexpr int64_t kHidden = 16;

/// Heads for layers of 8 and of 12 rows.
StateDict network_tensors() {
  return {{"input_1.weight", noise({kHidden, 16}, 1)}, {"input_1.bias", noise({kHidden}, 2)},
          {"input_2.weight", noise({kHidden, 24}, 3)}, {"input_2.bias", noise({kHidden}, 4)},
          {"output.1.weight", noise({2, kHidden}, 5)}, {"output.1.bias", noise({2}, 6)}};
}

/// The published network, literally: rows of [delta_s^T, delta_t^T] through Linear, ReLU, Linear.
Tensor literal_coefficients(const StateDict& network, const std::string& head,
                            const Tensor& subject, const Tensor& style) {
  const Tensor rows = torch::cat({subject.t(), style.t()}, 1);
  const Tensor hidden = torch::relu(torch::linear(rows, network.at("input_" + head + ".weight"),
                                                  network.at("input_" + head + ".bias")));
  return torch::linear(hidden, network.at("output.1.weight"), network.at("output.1.bias")).t();
}

TEST(Hypernetwork, PredictsFromFactorsWhatItPredictsFromWholeChanges) {
  const TempFolder folder;
  const StateDict tensors = network_tensors();
  const auto network = Hypernetwork::load(write_tensors(folder, "h.safetensors", tensors));
  EXPECT_EQ(network.widths(), (std::vector<int64_t>{8, 12}));
  for (const auto& [head, width] : {std::pair<const char*, int64_t>{"1", 8}, {"2", 12}}) {
    const LoraMatrices subject{.down = noise({3, 10}, 7), .up = noise({width, 3}, 8)};
    const LoraMatrices style{.down = noise({5, 10}, 9), .up = noise({width, 5}, 10)};
    const Tensor found = network.predict(kToQ, subject, style).coefficients;
    EXPECT_EQ(found.sizes(), (std::vector<int64_t>{2, 10}));
    EXPECT_TRUE(is_close(found,
                         literal_coefficients(tensors, head, subject.up.matmul(subject.down),
                                              style.up.matmul(style.down)),
                         {.atol = 1e-4, .rtol = 1e-4}))
        << head;
    EXPECT_FALSE(is_close(found, network.predict(kToQ, style, subject).coefficients, kRounding))
        << "the roles differ";
  }
}

TEST(Hypernetwork, CoversQueriesAndOutputsOfItsWidths) {
  const TempFolder folder;
  const auto network =
      Hypernetwork::load(write_tensors(folder, "h.safetensors", network_tensors()));
  EXPECT_TRUE(network.covers({"unet", "a.attn1.to_q"}, {8, 8}));
  EXPECT_TRUE(network.covers({"unet", "a.attn2.to_out.0"}, {12, 8}));
  EXPECT_FALSE(network.covers({"unet", "a.attn1.to_q"}, {16, 16}));
  EXPECT_FALSE(network.covers({"unet", "a.attn1.to_k"}, {8, 8}));
  EXPECT_FALSE(network.covers({"unet", "conv.to_q"}, {8, 8, 1, 1}));
  EXPECT_FALSE(network.covers({"text_encoder", "a.to_q"}, {8, 8}));
}

TEST(Hypernetwork, HalfPrecisionFilesLoad) {
  const TempFolder folder;
  StateDict half;
  for (const auto& [name, tensor] : network_tensors()) half[name] = tensor.to(at::kHalf);
  const auto network = Hypernetwork::load(write_tensors(folder, "h.safetensors", half));
  const LoraMatrices m{.down = noise({2, 8}, 7), .up = noise({8, 2}, 8)};
  EXPECT_EQ(network.predict(kToQ, m, m).coefficients.scalar_type(), at::kFloat);
}

TEST(Hypernetwork, SaysHowKeysAndValuesAreMerged) {
  const TempFolder folder;
  const auto load = [&](const std::map<std::string, std::string>& metadata) {
    return Hypernetwork::load(write_tensors(folder, "h.safetensors", network_tensors(), metadata))
        .key_value();
  };
  EXPECT_EQ(load({}), KeyValueMode::kSum);
  EXPECT_EQ(load({{"molar.key_value", "mean"}}), KeyValueMode::kMean);
  expect_error<FileError>([&] { load({{"molar.key_value", "both"}}); },
                          {"molar.key_value", "'both'", "sum or mean"});
  expect_error<ConfigError>([] { parse_key_value_mode("max"); }, {"--key-value", "'max'"});
}

TEST(Hypernetwork, RefusesBrokenFiles) {
  const TempFolder folder;
  const auto refuse = [&](const std::function<void(StateDict&)>& spoil,
                          std::initializer_list<std::string_view> words) {
    StateDict tensors = network_tensors();
    spoil(tensors);
    const auto path = write_tensors(folder, "broken.safetensors", tensors);
    expect_error<FileError>([&] { Hypernetwork::load(path); }, words);
  };
  refuse([](StateDict& t) { t.erase("output.1.weight"); },
         {"no whole hypernetwork", "output.1.weight"});
  refuse([](StateDict& t) { t.erase("output.1.bias"); }, {"'output.1.bias' is missing"});
  refuse([](StateDict& t) { t.erase("input_1.weight"); },
         {"no hypernetwork", "input_1.weight", "features.0.weight", "convert_hypernet"});
  refuse([](StateDict& t) { t.erase("input_2.bias"); }, {"'input_2.bias' is missing"});
  refuse([](StateDict& t) { t.erase("input_2.weight"); }, {"'input_2.bias'", "no weight"});
  refuse([](StateDict& t) { t["extra"] = noise({1}, 1); }, {"'extra' is unknown"});
  refuse([](StateDict& t) { t["input_x.weight"] = noise({1}, 1); }, {"'input_x.weight'"});
  refuse([](StateDict& t) { t["input_1.weight"] = noise({kHidden, 15}, 1); }, {"15", "even"});
  refuse([](StateDict& t) { t["input_1.weight"] = noise({4, 16}, 1); }, {"[4, 16]", "[16, -1]"});
  refuse([](StateDict& t) { t["input_2.weight"] = noise({kHidden, 16}, 1); }, {"two heads", "8"});
  refuse([](StateDict& t) { t["output.1.weight"] = noise({3, kHidden}, 1); }, {"[3, 16]"});
  refuse([](StateDict& t) { t["input_1.bias"] = torch::full({kHidden}, NAN); }, {"NaN"});
  refuse([](StateDict& t) { t["input_1.bias"] = torch::zeros({kHidden}, at::kInt); },
         {"input_1.bias"});
}

/// A network of features with values in all tensors.
StateDict feature_tensors() {
  const auto features = static_cast<int64_t>(column_feature_names().size());
  return {{"features.0.weight", noise({kHidden, features}, 1)},
          {"features.0.bias", noise({kHidden}, 2)},
          {"features.2.weight", noise({kHidden, kHidden}, 3)},
          {"features.2.bias", noise({kHidden}, 4)},
          {"features.4.weight", noise({3, kHidden}, 5)},
          {"features.4.bias", noise({3}, 6)}};
}

TEST(FeatureNetwork, PredictsFromFeaturesForLayersOfAnyWidth) {
  const TempFolder folder;
  const StateDict tensors = feature_tensors();
  const auto network = Hypernetwork::load(write_tensors(folder, "h.safetensors", tensors));
  EXPECT_EQ(network.layout(), HypernetLayout::kFeatures);
  EXPECT_EQ(network.num_hidden(), kHidden);
  EXPECT_TRUE(network.widths().empty());
  for (const int64_t width : {8, 20}) {
    const LoraMatrices subject{.down = noise({3, 10}, 7), .up = noise({width, 3}, 8)};
    const LoraMatrices style{.down = noise({5, 10}, 9), .up = noise({width, 5}, 10)};
    Tensor x = column_features(kToQ.module, subject, style).t();
    for (const char* layer : {"features.0", "features.2", "features.4"}) {
      if (layer != std::string("features.0")) x = torch::relu(x);
      x = torch::linear(x, tensors.at(std::string(layer) + ".weight"),
                        tensors.at(std::string(layer) + ".bias"));
    }
    const auto [coefficients, projection] = network.predict(kToQ, subject, style);
    EXPECT_TRUE(is_close(coefficients, x.t().narrow(0, 0, 2), {.atol = 1e-4, .rtol = 1e-4}));
    EXPECT_TRUE(is_close(projection, x.select(1, 2).mean().sigmoid(), kRounding));
  }
}

TEST(FeatureNetwork, CoversTheLayersOfTheUNet) {
  const auto network = Hypernetwork::from_tensors(feature_tensors(), "h");
  EXPECT_TRUE(network.covers(kToK, {7, 8}));
  EXPECT_TRUE(network.covers(kConv, {8, 8, 3, 3}));
  EXPECT_FALSE(network.covers({"text_encoder", "a.to_q"}, {8, 8}));
}

TEST(FeatureNetwork, RefusesBrokenFiles) {
  const auto refuse = [&](const std::function<void(StateDict&)>& spoil,
                          std::initializer_list<std::string_view> words) {
    StateDict tensors = feature_tensors();
    spoil(tensors);
    expect_error<FileError>([&] { Hypernetwork::from_tensors(tensors, "h"); }, words);
  };
  refuse([](StateDict& t) { t.erase("features.2.bias"); }, {"'features.2.bias' is missing"});
  refuse([](StateDict& t) { t["features.6.bias"] = noise({1}, 1); }, {"'features.6.bias'", ".4"});
  refuse([](StateDict& t) { t["features.0.weight"] = noise({kHidden, 3}, 1); }, {"[16, 3]"});
  refuse([](StateDict& t) { t["features.4.weight"] = noise({2, kHidden}, 1); }, {"[2, 16]"});
  refuse([](StateDict& t) { t["input_1.weight"] = noise({4, 4}, 1); }, {"two layouts"});
  expect_error<ConfigError>([] { parse_hypernet_layout("rows"); },
                            {"--layout 'rows'", "columns or features"});
}

}  // namespace
}  // namespace molar
