#include "molar/adapters/mole/expert_set.h"

#include <limits>

#include "mole_fixtures.h"

namespace molar {
namespace {

using test::expect_error;
using test::FakeModel;
using test::gate_tensors;
using test::kProjIn;
using test::kToQ;
using test::lora_key;
using test::TempFolder;
using test::write_expert_set;
using test::write_tensors;

const std::string kToQGates = "moe_" + lora_key(kToQ) + ".softmoe.";

TEST(ExpertSet, ReadsNamesFactorsAndGates) {
  const TempFolder folder;
  const FakeModel model = test::small_model();
  write_expert_set(folder, model);
  ASSERT_TRUE(is_expert_set(folder.path()));
  const ExpertSet set = load_expert_set(folder.path(), model.layers);
  EXPECT_EQ(set.gates.experts, (std::vector<std::string>{"face", "hand"}));
  ASSERT_EQ(set.experts.size(), 2U);
  EXPECT_EQ(set.experts[1].name, "hand");
  EXPECT_EQ(set.experts[1].weights.layers.at(kToQ).rank(), 3);
  EXPECT_EQ(set.experts[1].weights.layers.at(kToQ).scale, 0.5);
  EXPECT_EQ(set.gates.layers.size(), 3U);
  const StateDict stored = gate_tensors(model, {"face", "hand"});
  const LayerGates& gates = set.gates.layers.at(kToQ);
  EXPECT_TRUE(at::equal(gates.local_weight, stored.at(kToQGates + "Phi_1.weight")));
  EXPECT_TRUE(at::equal(gates.global_weight[1], stored.at(kToQGates + "hand_scale.weight")[0]));
  EXPECT_TRUE(at::equal(gates.global_bias[0], stored.at(kToQGates + "face_scale.bias")[0]));
}

TEST(ExpertSet, TheFoldersNameMeansNothing) {
  const TempFolder folder;
  const FakeModel model = test::small_model();
  const auto inner = folder / "hand-and-face";
  std::filesystem::create_directory(inner);
  const TempFolder source;
  write_expert_set(source, model);
  for (const char* name : {"face.safetensors", "hand.safetensors", "gates.safetensors"})
    std::filesystem::copy(source / name, inner / name);
  const ExpertSet set = load_expert_set(inner, model.layers);
  EXPECT_EQ(set.experts[0].weights.layers.at(kToQ).rank(), 2) << "face is the file face";
}

TEST(ExpertSet, RowsAreInTheOrderOfTheMetadataOrAlphabetical) {
  const FakeModel model = test::small_model();
  const StateDict tensors = gate_tensors(model, {"tail", "ear", "paw"});
  const TempFolder folder;
  const auto order_of = [&](const std::map<std::string, std::string>& metadata) {
    return load_expert_gates(write_tensors(folder, "gates.safetensors", tensors, metadata),
                             model.layers)
        .experts;
  };
  EXPECT_EQ(order_of({}), (std::vector<std::string>{"ear", "paw", "tail"}));
  EXPECT_EQ(order_of({{"molar.experts", "tail,ear,paw"}}),
            (std::vector<std::string>{"tail", "ear", "paw"}));
  for (const char* wrong : {"tail,ear", "tail,ear,paw,nose", "", "tail,ear,ear"})
    expect_error<FileError>([&] { order_of({{"molar.experts", wrong}}); },
                            {"molar.experts", "ear, paw, tail"});
}

TEST(ExpertGates, OfSdxlMayNameTheOriginalBlocks) {
  const FakeModel model = test::tiny_model("sdxl-tiny");
  const ExpertSet set = load_expert_set(test::golden("mole/sets/sdxl"), model.layers);
  EXPECT_TRUE(set.gates.layers.contains(
      {"unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"}));
  EXPECT_EQ(set.gates.layers.size(), set.experts[0].weights.layers.size());
}

/// The gates of the small model after `edit`, which must be refused.
template <typename ErrorType>
void expect_gates_refused(const std::function<void(StateDict&)>& edit,
                          std::initializer_list<std::string_view> pieces) {
  const TempFolder folder;
  const FakeModel model = test::small_model();
  StateDict tensors = gate_tensors(model, {"face", "hand"});
  edit(tensors);
  const auto path = write_tensors(folder, "gates.safetensors", tensors);
  expect_error<ErrorType>([&] { load_expert_gates(path, model.layers); }, pieces);
}

TEST(ExpertGates, RefusesMissingTensorsByName) {
  for (const std::string rest :
       {"Phi_1.weight", "Phi_1.bias", "face_scale.bias", "hand_scale.weight"})
    expect_gates_refused<FitError>([&](StateDict& t) { t.erase(kToQGates + rest); },
                                   {kToQGates + rest, "is missing"});
}

TEST(ExpertGates, RefusesUnknownTensorsByName) {
  for (const std::string& extra :
       {kToQGates + "Phi_2.weight", kToQGates + "Phi_1.scale", kToQGates + "_scale.weight",
        kToQGates + "../face_scale.bias", std::string("lora_unet_x.alpha")})
    expect_gates_refused<FitError>([&](StateDict& t) { t[extra] = at::zeros({1}); },
                                   {"'" + extra + "' is unknown"});
  const std::string elsewhere = "moe_lora_unet_mid_block_attentions_9_proj_in.softmoe.Phi_1.bias";
  expect_gates_refused<FitError>([&](StateDict& t) { t[elsewhere] = at::zeros({2}); },
                                 {elsewhere, "names no layer"});
  const std::string text = "moe_lora_te_text_model_encoder_layers_0_mlp_fc1.softmoe.Phi_1.bias";
  expect_gates_refused<FitError>([&](StateDict& t) { t[text] = at::zeros({2}); }, {text, "UNet"});
}

TEST(ExpertGates, RefusesOtherShapesByName) {
  expect_gates_refused<FitError>(
      [](StateDict& t) { t[kToQGates + "Phi_1.weight"] = at::zeros({2, 9}); },
      {kToQGates + "Phi_1.weight", "[2, 9]", "wanted [2, 8]", kToQ.module});
  expect_gates_refused<FitError>([](StateDict& t) { t[kToQGates + "Phi_1.bias"] = at::zeros({3}); },
                                 {kToQGates + "Phi_1.bias", "[3]", "wanted [2]"});
  expect_gates_refused<FitError>(
      [](StateDict& t) { t[kToQGates + "hand_scale.weight"] = at::zeros({2, 8}); },
      {kToQGates + "hand_scale.weight", "[2, 8]", "wanted [1, 8]"});
  const std::string conv = "moe_" + lora_key(test::kConv) + ".softmoe.Phi_1.bias";
  expect_gates_refused<FitError>([&](StateDict& t) { t[conv] = at::zeros({2}); },
                                 {conv, "3x3 convolution"});
}

TEST(ExpertGates, RefusesWhatIsNoNumber) {
  expect_gates_refused<FileError>(
      [](StateDict& t) {
        t[kToQGates + "Phi_1.bias"] =
            at::full({2}, std::numeric_limits<double>::quiet_NaN(), at::kFloat);
      },
      {kToQGates + "Phi_1.bias", "NaN"});
  expect_gates_refused<FileError>(
      [](StateDict& t) { t[kToQGates + "Phi_1.bias"] = at::zeros({2}, at::kLong); },
      {kToQGates + "Phi_1.bias", "int64"});
  expect_gates_refused<FileError>([](StateDict& t) { t = test::small_lora(); },
                                  {"is no gate file"});
  expect_gates_refused<FileError>(
      [](StateDict& t) {
        t = {{kToQGates + "Phi_1.bias", at::zeros({2})}};  // of no expert
      },
      {"is no gate file"});
}

TEST(ExpertSet, RefusesWhatDoesNotBelongTogether) {
  const FakeModel model = test::small_model();
  const auto refused = [&](const auto& spoil) {
    return [&, spoil] {
      const TempFolder folder;
      write_expert_set(folder, model);
      spoil(folder);
      load_expert_set(folder.path(), model.layers);
    };
  };
  expect_error<FileError>(
      refused([](const TempFolder& f) { std::filesystem::remove(f / "hand.safetensors"); }),
      {"hand.safetensors' is missing", "face, hand"});
  expect_error<FileError>(
      refused([](const TempFolder& f) { std::filesystem::remove(f / "gates.safetensors"); }),
      {"gates.safetensors"});
  expect_error<FileError>([&] { load_expert_set("/nowhere/mole", model.layers); },
                          {"/nowhere/mole", "wanted a folder"});
  expect_error<FitError>(refused([&](const TempFolder& f) {
                           write_tensors(f, "elbow.safetensors",
                                         test::expert_tensors(model, 2, 50));
                         }),
                         {"elbow.safetensors' has no gates", "elbow_scale", "face, hand"});
  expect_error<FitError>(
      refused([&](const TempFolder& f) {
        StateDict less = test::expert_tensors(model, 2, 1);
        for (const char* end : {".lora_down.weight", ".lora_up.weight", ".alpha"})
          less.erase(lora_key(kProjIn) + end);
        write_tensors(f, "hand.safetensors", less);
      }),
      {"hand.safetensors' does not change layer 'mid_block.attentions.0.proj_in'",
       "moe_" + lora_key(kProjIn) + ".softmoe.hand_scale.weight"});
  expect_error<FitError>(
      refused([&](const TempFolder& f) {
        StateDict less = gate_tensors(model, {"face", "hand"});
        std::erase_if(less, [](const auto& entry) {
          return entry.first.starts_with("moe_" + lora_key(kProjIn));
        });
        write_tensors(f, "gates.safetensors", less);
      }),
      {"moe_" + lora_key(kProjIn) + ".softmoe.Phi_1.weight' is missing", "face.safetensors"});
  expect_error<FitError>(refused([&](const TempFolder& f) {
                           StateDict more = test::expert_tensors(model, 2, 1);
                           more["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] =
                               test::noise({2, 6}, 3);
                           more["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"] =
                               test::noise({12, 2}, 4);
                           write_tensors(f, "face.safetensors", more);
                         }),
                         {"face.safetensors", "text_encoder", "UNet alone"});
}

TEST(ExpertGates, DescribeThemselves) {
  const TempFolder folder;
  const FakeModel model = test::small_model();
  write_expert_set(folder, model);
  const ExpertGatesSummary summary = describe_expert_gates(folder / "gates.safetensors");
  EXPECT_EQ(summary.experts, (std::vector<std::string>{"face", "hand"}));
  EXPECT_EQ(summary.num_layers, 3);
  EXPECT_EQ(summary.num_keys, 18);
  int64_t parameters = 0;
  for (const auto& [name, tensor] : gate_tensors(model, {"face", "hand"}))
    parameters += tensor.numel();
  EXPECT_EQ(summary.num_parameters, parameters);
  EXPECT_EQ(summary.dtype, "float32");
  expect_error<FileError>([&] { describe_expert_gates(folder / "face.safetensors"); },
                          {"is no gate file"});
}

}  // namespace
}  // namespace molar
