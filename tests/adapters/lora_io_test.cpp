#include "molar/adapters/lora_io.h"

#include <functional>

#include "lora_fixtures.h"
#include "molar/adapters/lora_fuser.h"
#include "molar/adapters/lora_key_map.h"
#include "molar/io/json_config.h"

namespace molar {
namespace {

using test::FakeModel;
using test::golden;
using test::kConv;
using test::kConvKey;
using test::kFc1;
using test::kProjIn;
using test::kToK;
using test::kToQ;
using test::kToQKey;
using test::noise;
using test::small_lora;
using test::small_model;
using test::TempFolder;
using test::tiny_model;
using test::write_tensors;

// ---- what diffusers and peft make of the same files ----

TEST(LoadLora, FusesToTheWeightsOfDiffusersAndPeft) {
  const Json manifest = read_json_file(golden("lora/MANIFEST.json"));
  int num_cases = 0;
  for (const Json& row : manifest.at("cases")) {
    const std::string name = row.at("name");
    FakeModel model = tiny_model(row.at("model"));
    const auto folder = golden("lora/" + name);
    const bool is_file = std::filesystem::exists(folder / "lora.safetensors");
    const LoraWeights weights =
        load_lora(is_file ? folder / "lora.safetensors" : folder, model.layers);
    EXPECT_EQ(weights.layers.size(), row.at("num_layers")) << name;
    EXPECT_TRUE(weights.skipped_keys.empty()) << name;
    LoraFuser fuser(model.layers, model.source());
    fuser.attach({{&weights}});
    size_t num_shown = 0;
    for (const auto& [key, fused] :
         SafetensorsFile::open(folder / "fused.safetensors").state_dict()) {
      const size_t slash = key.find('/');
      const LayerName layer{key.substr(0, slash), key.substr(slash + 1)};
      // float32 sums in another order; the changes are as large as the weights.
      EXPECT_TRUE(is_close(model.layer(layer).weight(), fused, {.atol = 2e-6, .rtol = 1e-5}))
          << name << ", " << key;
      EXPECT_FALSE(is_close(model.original(layer), fused, {.atol = 1e-3, .rtol = 0}))
          << name << " changes nothing";
      ++num_shown;
    }
    EXPECT_EQ(num_shown, row.at("num_shown")) << name;
    ++num_cases;
  }
  EXPECT_EQ(num_cases, 14);
}

// ---- one LoRA in every spelling ----

std::string underscored(std::string text) {
  std::replace(text.begin(), text.end(), '.', '_');
  return text;
}

/// A family's spelling of one layer's keys; nullopt where the family cannot name the layer.
struct Spelling {
  std::string name;
  bool has_alpha;
  std::function<std::optional<std::string>(const LayerName&, const LayerIndex& unet, bool down)>
      key;
};

bool is_text(const LayerName& layer) { return layer.component != "unet"; }
bool is_attention(const std::string& module) {
  return module.find(".attn1.") != std::string::npos || module.find(".attn2.") != std::string::npos;
}

/// "attn1.to_out.0" -> "attn1.processor.to_out_lora".
std::string processor_name(const std::string& module) {
  const std::string layer =
      module.ends_with(".to_out.0") ? module.substr(0, module.size() - 2) : module;
  const size_t dot = layer.rfind('.');
  return layer.substr(0, dot) + ".processor" + layer.substr(dot) + "_lora";
}

std::vector<Spelling> spellings() {
  const auto down_up = [](bool down, const char* a, const char* b) {
    return std::string(down ? a : b);
  };
  const auto kohya_prefix = [](const LayerName& l, bool xl) {
    if (l.component == "unet") return std::string("lora_unet_");
    if (l.component == "text_encoder_2") return std::string("lora_te2_");
    return std::string(xl ? "lora_te1_" : "lora_te_");
  };
  using Key = std::optional<std::string>;
  return {
      {"kohya, te", true,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         return kohya_prefix(l, false) + underscored(l.module) +
                down_up(down, ".lora_down.weight", ".lora_up.weight");
       }},
      {"kohya, te1", true,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         return kohya_prefix(l, true) + underscored(l.module) +
                down_up(down, ".lora_down.weight", ".lora_up.weight");
       }},
      {"kohya with LDM block names", true,
       [=](const LayerName& l, const LayerIndex& unet, bool down) -> Key {
         const std::string module = is_text(l) ? l.module : ldm_module_name(l.module, unet).value();
         return kohya_prefix(l, true) + underscored(module) +
                down_up(down, ".lora_down.weight", ".lora_up.weight");
       }},
      {"kohya without text_model", true,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         if (!l.module.starts_with("text_model.")) return std::nullopt;
         return kohya_prefix(l, true) + underscored(l.module.substr(11)) +
                down_up(down, ".lora_down.weight", ".lora_up.weight");
       }},
      {"LyCORIS", true,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         if (is_text(l)) return std::nullopt;
         return "lycoris_" + underscored(l.module) +
                down_up(down, ".lora_down.weight", ".lora_up.weight");
       }},
      {"diffusers, attention processors", false,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         if (is_text(l) || !is_attention(l.module)) return std::nullopt;
         return "unet." + processor_name(l.module) + down_up(down, ".down.weight", ".up.weight");
       }},
      {"diffusers, attention processors of a bare UNet", false,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         if (is_text(l) || !is_attention(l.module)) return std::nullopt;
         return processor_name(l.module) + down_up(down, ".down.weight", ".up.weight");
       }},
      {"diffusers, unet.unet", false,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         if (is_text(l)) return std::nullopt;
         return "unet.unet." + l.module + down_up(down, ".lora.down.weight", ".lora.up.weight");
       }},
      {"diffusers, mixed", false,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         const std::string key = l.component + "." + l.module;
         if (is_text(l))
           return key +
                  down_up(down, ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight");
         if (is_attention(l.module))
           return key + down_up(down, ".lora.down.weight", ".lora.up.weight");
         return key + down_up(down, ".lora_A.weight", ".lora_B.weight");
       }},
      {"diffusers with alpha", true,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         return l.component + "." + l.module + down_up(down, ".lora_A.weight", ".lora_B.weight");
       }},
      {"PEFT names without .weight", false,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         return l.component + "." + l.module + down_up(down, ".lora_A", ".lora_B");
       }},
      {"PEFT in memory", false,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         if (is_text(l)) return std::nullopt;
         return "base_model.model." + l.module +
                down_up(down, ".lora_A.default.weight", ".lora_B.default.weight");
       }},
      {"PEFT below unet", false,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         if (is_text(l)) return std::nullopt;
         return "unet.base_model.model." + l.module +
                down_up(down, ".lora_A.weight", ".lora_B.weight");
       }},
      {"ComfyUI", true,
       [=](const LayerName& l, const LayerIndex& unet, bool down) -> Key {
         const std::string suffix = down_up(down, ".lora_down.weight", ".lora_up.weight");
         if (l.component == "unet")
           return "diffusion_model." + ldm_module_name(l.module, unet).value() + suffix;
         return (l.component == "text_encoder" ? "text_encoders.clip_l.transformer."
                                               : "text_encoders.clip_g.transformer.") +
                l.module + suffix;
       }},
      {"ComfyUI, whole prefix", false,
       [=](const LayerName& l, const LayerIndex& unet, bool down) -> Key {
         const std::string suffix = down_up(down, ".lora_A.weight", ".lora_B.weight");
         if (l.component == "unet")
           return "model.diffusion_model." + ldm_module_name(l.module, unet).value() + suffix;
         return (l.component == "text_encoder" ? "text_encoders.clip_l."
                                               : "text_encoders.clip_g.") +
                l.module + suffix;
       }},
      {"ComfyUI, diffusers' block names", false,
       [=](const LayerName& l, const LayerIndex&, bool down) -> Key {
         if (is_text(l)) return std::nullopt;
         return "diffusion_model." + l.module + down_up(down, ".lora_A.weight", ".lora_B.weight");
       }},
  };
}

class LoadLoraSpelling : public testing::TestWithParam<const char*> {};

TEST_P(LoadLoraSpelling, OfOneLoraGivesTheSameChanges) {
  const std::string model_name = GetParam();
  FakeModel model = tiny_model(model_name);
  const LoraWeights reference = load_lora(
      golden("lora/" + model_name.substr(0, 4) + "-kohya/lora.safetensors"), model.layers);
  const LayerIndex& unet = model.layers.components.at("unet");
  const TempFolder folder;
  for (const Spelling& spelling : spellings()) {
    StateDict tensors;
    std::map<LayerName, Tensor> wanted;
    for (const auto& [name, layer] : reference.layers) {
      const auto down_key = spelling.key(name, unet, true);
      if (!down_key) continue;
      const auto& f = std::get<LowRankFactors>(layer.factors);
      // A family without alpha has it in a factor.
      tensors[*down_key] = spelling.has_alpha ? f.down : f.down * layer.scale;
      tensors[*spelling.key(name, unet, false)] = f.up;
      if (spelling.has_alpha) {
        const size_t end = split_lora_key(*down_key)->module.size();
        tensors[down_key->substr(0, end) + ".alpha"] =
            torch::scalar_tensor(layer.scale * static_cast<double>(layer.rank()));
      }
      wanted[name] = layer.delta();
    }
    ASSERT_GT(wanted.size(), 10U) << spelling.name;
    const LoraWeights loaded =
        load_lora(write_tensors(folder, "lora.safetensors", tensors), model.layers);
    EXPECT_EQ(loaded.layers.size(), wanted.size()) << spelling.name;
    EXPECT_EQ(loaded.num_keys, tensors.size()) << spelling.name;
    EXPECT_FALSE(loaded.key_family.empty()) << spelling.name;
    for (const auto& [name, delta] : wanted)
      EXPECT_TRUE(is_close(loaded.layers.at(name).delta(), delta, {.atol = 1e-6, .rtol = 1e-5}))
          << spelling.name << ", " << name.module;
  }
}

INSTANTIATE_TEST_SUITE_P(TinyModels, LoadLoraSpelling,
                         testing::Values("sd15-tiny", "sd21-tiny", "sdxl-tiny"),
                         [](const auto& test) { return std::string(test.param).substr(0, 4); });

// ---- scales ----

double loaded_scale(const StateDict& tensors,
                    const std::map<std::string, std::string>& metadata = {}) {
  const FakeModel model = small_model();
  const TempFolder folder;
  return load_lora(write_tensors(folder, "lora.safetensors", tensors, metadata), model.layers)
      .layers.at(kToQ)
      .scale;
}

TEST(LoraScale, IsAlphaOverRank) {
  StateDict tensors = small_lora();
  EXPECT_EQ(loaded_scale(tensors), 1.0);
  tensors[kToQKey + ".alpha"] = torch::scalar_tensor(3.0);
  EXPECT_EQ(loaded_scale(tensors), 1.5);
  tensors[kToQKey + ".alpha"] = torch::full({1}, 3, at::kLong);
  EXPECT_EQ(loaded_scale(tensors), 1.5);
  tensors[kToQKey + ".alpha"] = torch::scalar_tensor(3.0, at::kHalf);
  EXPECT_EQ(loaded_scale(tensors), 1.5);
}

TEST(LoraScale, AlphaZeroStandsForTheRank) {
  StateDict tensors = small_lora();
  tensors[kToQKey + ".alpha"] = torch::scalar_tensor(0.0);
  EXPECT_EQ(loaded_scale(tensors), 1.0);
}

TEST(LoraScale, AScaleTensorIsTheScaleItself) {
  StateDict tensors = small_lora();
  tensors[kToQKey + ".alpha"] = torch::scalar_tensor(3.0);
  tensors[kToQKey + ".scale"] = torch::scalar_tensor(0.25);
  EXPECT_EQ(loaded_scale(tensors), 0.25);
}

TEST(LoraScale, TwoWholeLoKrFactorsKnowNoAlpha) {
  StateDict tensors{{kToQKey + ".lokr_w1", noise({2, 2}, 1)},
                    {kToQKey + ".lokr_w2", noise({4, 4}, 2)}};
  tensors[kToQKey + ".alpha"] = torch::scalar_tensor(3.0);
  EXPECT_EQ(loaded_scale(tensors), 1.0);
}

std::string metadata_config(const std::string& fields) { return "{" + fields + "}"; }

TEST(LoraScale, ComesFromTheMetadataOfDiffusers) {
  const std::string module = kToQ.module;
  const auto scale = [](const std::string& fields) {
    return loaded_scale(small_lora(), {{"lora_adapter_metadata", metadata_config(fields)}});
  };
  EXPECT_EQ(scale(R"("unet.r": 2, "unet.lora_alpha": 8)"), 4.0);
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.use_rslora": true)"), 8.0 / std::sqrt(2.0));
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.alpha_pattern": {"to_q": 1})"), 0.5);
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.alpha_pattern": {"o_q": 1})"), 4.0);
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.alpha_pattern": {"to_q": 1, "attn2.to_q": 3})"),
            0.5);
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.alpha_pattern": {"to_q": 3, "attn2.to_q": 1})"),
            1.5);  // whatever the names' order
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.alpha_pattern": {"^to_q": 3})"), 4.0);
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.alpha_pattern": {"^)" + module + R"($": 3})"),
            1.5);
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2\\.to_q": 3})"), 1.5);
  EXPECT_EQ(scale(R"("unet.lora_alpha": 8, "unet.alpha_pattern": null)"), 4.0);
  EXPECT_EQ(scale(R"("text_encoder.lora_alpha": 8)"), 1.0);
}

TEST(LoraScale, AnAlphaTensorOutranksTheMetadata) {
  StateDict tensors = small_lora();
  tensors[kToQKey + ".alpha"] = torch::scalar_tensor(3.0);
  EXPECT_EQ(loaded_scale(tensors, {{"lora_adapter_metadata", R"({"unet.lora_alpha": 8})"}}), 1.5);
}

// ---- folders ----

/// Writes a PEFT folder with one layer of rank 2.
std::filesystem::path write_peft(const std::filesystem::path& folder, const std::string& module,
                                 int64_t out, int64_t in, const std::string& config) {
  std::filesystem::create_directories(folder);
  const StateDict tensors{{"base_model.model." + module + ".lora_A.weight", noise({2, in}, 1)},
                          {"base_model.model." + module + ".lora_B.weight", noise({out, 2}, 2)}};
  write_safetensors(folder / "adapter_model.safetensors", OnExist::kOverwrite, tensors, {});
  std::ofstream(folder / "adapter_config.json") << config;
  return folder;
}

TEST(LoadLora, ReadsAPeftFolderAndItsFile) {
  const FakeModel model = small_model();
  const TempFolder folder;
  const auto path = write_peft(folder / "dog", kToQ.module, 8, 8,
                               R"({"peft_type": "LORA", "r": 2, "lora_alpha": 6})");
  for (const auto& place : {path, path / "adapter_model.safetensors"}) {
    const LoraWeights weights = load_lora(place, model.layers);
    EXPECT_EQ(weights.layers.at(kToQ).scale, 3.0);
    EXPECT_EQ(weights.key_family, "PEFT");
    EXPECT_EQ(weights.path, path / "adapter_model.safetensors");
  }
}

TEST(LoadLora, ReadsAPeftFolderPerComponent) {
  FakeModel model = small_model();
  model.add({"text_encoder_2", kFc1.module}, {12, 6});
  const TempFolder folder;
  write_peft(folder / "dog/unet", kToQ.module, 8, 8, R"({"lora_alpha": 6})");
  write_peft(folder / "dog/text_encoder_2", "encoder.layers.0.mlp.fc1", 12, 6,
             R"({"lora_alpha": 4})");
  const LoraWeights weights = load_lora(folder / "dog", model.layers);
  ASSERT_EQ(weights.layers.size(), 2U);
  EXPECT_EQ(weights.layers.at(kToQ).scale, 3.0);
  EXPECT_EQ((weights.layers.at({"text_encoder_2", kFc1.module}).scale), 2.0);
  EXPECT_EQ(weights.num_layers("unet"), 1);
  EXPECT_EQ(weights.num_layers("text_encoder"), 0);
}

TEST(LoadLora, AsksThePeftConfigWhichTextEncoderItIsOf) {
  FakeModel model = small_model();
  model.add({"text_encoder_2", kFc1.module}, {12, 6});
  const TempFolder folder;
  const auto path =
      write_peft(folder / "a", "text_model.encoder.layers.0.mlp.fc1", 12, 6,
                 R"({"auto_mapping": {"base_model_class": "CLIPTextModelWithProjection"}})");
  EXPECT_EQ(load_lora(path, model.layers).num_layers("text_encoder_2"), 1);
  const auto by_name = write_peft(folder / "text_encoder_2_lora",
                                  "text_model.encoder.layers.0.mlp.fc1", 12, 6, "{}");
  EXPECT_EQ(load_lora(by_name, model.layers).num_layers("text_encoder_2"), 1);
}

TEST(LoadLora, ReadsADiffusersFolder) {
  const FakeModel model = small_model();
  const TempFolder folder;
  write_tensors(folder, "pytorch_lora_weights.safetensors", small_lora());
  EXPECT_EQ(load_lora(folder.path(), model.layers).layers.size(), 1U);
}

TEST(LoadLora, RefusesFoldersWithoutALora) {
  const FakeModel model = small_model();
  const TempFolder folder;
  test::expect_error<FileError>(
      [&] { load_lora(folder.path(), model.layers); },
      {folder.path().string(), "adapter_model.safetensors", "pytorch_lora_weights.safetensors"});
  folder.file("adapter_model.bin", "x");
  test::expect_error<FileError>([&] { load_lora(folder.path(), model.layers); },
                                {"adapter_model.bin", "pickle", "save_file"});
}

TEST(LoadLora, RefusesAPeftFileWithoutItsConfig) {
  const FakeModel model = small_model();
  const TempFolder folder;
  write_tensors(folder, "adapter_model.safetensors", small_lora());
  test::expect_error<FileError>([&] { load_lora(folder.path(), model.layers); },
                                {"adapter_config.json"});
  test::expect_error<FileError>(
      [&] { load_lora(folder / "adapter_model.safetensors", model.layers); },
      {"adapter_config.json"});
}

TEST(LoadLora, RefusesPeftConfigsThatItCannotFollow) {
  const FakeModel model = small_model();
  const TempFolder folder;
  const auto expect = [&](const std::string& config,
                          std::initializer_list<std::string_view> pieces) {
    const auto path = write_peft(folder / "dog", kToQ.module, 8, 8, config);
    test::expect_error<FileError>([&] { load_lora(path, model.layers); }, pieces);
  };
  expect(R"({"use_dora": true})", {"adapter_config.json", "DoRA"});
  expect(R"({"init_lora_weights": "pissa_niter_16"})", {"pissa_niter_16", "base weights"});
  expect(R"({"lora_alpha": "8"})", {"lora_alpha", "a number"});
  expect(R"({"alpha_pattern": [1]})", {"alpha_pattern", "object"});
  expect(R"({"alpha_pattern": {".*to_q": 8}})", {".*to_q", "regular expression"});
  expect(R"({"alpha_pattern": {"": 8}})", {"regular expression"});
  expect(R"({"alpha_pattern": {"to_q": "8"}})", {"to_q", "a number"});
  for (const std::string type : {"VERA", "BOFT", "XLORA", "ADALORA", "PROMPT_TUNING"})
    expect(R"({"peft_type": ")" + type + R"("})", {"'peft_type' is", type, "\"LORA\""});
  for (const std::string setting :
       {"\"lora_bias\": true", "\"use_qalora\": true", "\"use_bdlora\": {}", "\"bias\": \"all\"",
        "\"layer_replication\": [[0, 2]]", "\"alora_invocation_tokens\": [1]",
        "\"modules_to_save\": [\"conv_in\"]", "\"bogus_scale\": 2"})
    expect("{" + setting + "}", {setting.substr(1, setting.find(':') - 2)});
  expect(R"([1])", {"adapter_config.json", "object"});
  expect(R"({)", {"adapter_config.json"});
  const auto fine =
      write_peft(folder / "dog", kToQ.module, 8, 8, R"({"init_lora_weights": "gaussian"})");
  EXPECT_EQ(load_lora(fine, model.layers).layers.at(kToQ).scale, 1.0);
}

TEST(LoadLora, RefusesBrokenMetadataOfDiffusers) {
  const FakeModel model = small_model();
  const TempFolder folder;
  for (const std::string json : {"[1]", "{", "{\"unet.lora_alpha\": \"x\"}"}) {
    const auto path =
        write_tensors(folder, "lora.safetensors", small_lora(), {{"lora_adapter_metadata", json}});
    test::expect_error<FileError>([&] { load_lora(path, model.layers); },
                                  {"lora.safetensors", "lora_adapter_metadata"});
  }
}

// ---- shapes ----

TEST(LoadLora, ReadsAConvolutionOfOneForALinearLayerAndBack) {
  const FakeModel model = small_model();
  const TempFolder folder;
  const std::string proj = "lora_unet_mid_block_attentions_0_proj_in";
  for (const bool as_convolution : {true, false}) {
    const std::vector<int64_t> tail =
        as_convolution ? std::vector<int64_t>{1, 1} : std::vector<int64_t>{};
    const auto shape = [&](int64_t a, int64_t b) {
      std::vector<int64_t> sizes{a, b};
      sizes.insert(sizes.end(), tail.begin(), tail.end());
      return sizes;
    };
    const StateDict tensors{{kToQKey + ".lora_down.weight", noise(shape(2, 8), 1)},
                            {kToQKey + ".lora_up.weight", noise(shape(8, 2), 2)},
                            {proj + ".lora_down.weight", noise(shape(2, 8), 1)},
                            {proj + ".lora_up.weight", noise(shape(8, 2), 2)}};
    const LoraWeights weights =
        load_lora(write_tensors(folder, "lora.safetensors", tensors), model.layers);
    EXPECT_EQ(weights.layers.at(kToQ).delta().sizes(), (std::vector<int64_t>{8, 8}));
    EXPECT_EQ(weights.layers.at(kProjIn).delta().sizes(), (std::vector<int64_t>{8, 8, 1, 1}));
  }
}

TEST(LoadLora, ReadsEveryKindOfFactorForAConvolution) {
  const FakeModel model = small_model();
  const TempFolder folder;
  const std::vector<StateDict> files{
      {{".lora_down.weight", noise({2, 4, 3, 3}, 1)}, {".lora_up.weight", noise({8, 2, 1, 1}, 2)}},
      {{".lora_down.weight", noise({2, 4, 3, 3}, 1)}, {".lora_up.weight", noise({8, 2}, 2)}},
      {{".lora_down.weight", noise({2, 4, 1, 1}, 1)},
       {".lora_up.weight", noise({8, 2, 1, 1}, 2)},
       {".lora_mid.weight", noise({2, 2, 3, 3}, 3)}},
      {{".hada_w1_a", noise({8, 2}, 1)},
       {".hada_w1_b", noise({2, 36}, 2)},
       {".hada_w2_a", noise({8, 2}, 3)},
       {".hada_w2_b", noise({2, 36}, 4)}},
      {{".hada_w1_a", noise({2, 8}, 1)},
       {".hada_w1_b", noise({2, 4}, 2)},
       {".hada_w2_a", noise({2, 8}, 3)},
       {".hada_w2_b", noise({2, 4}, 4)},
       {".hada_t1", noise({2, 2, 3, 3}, 5)},
       {".hada_t2", noise({2, 2, 3, 3}, 6)}},
      {{".lokr_w1", noise({2, 2}, 1)}, {".lokr_w2", noise({4, 2, 3, 3}, 2)}},
      {{".lokr_w1", noise({2, 2}, 1)},
       {".lokr_w2_a", noise({4, 3}, 2)},
       {".lokr_w2_b", noise({3, 18}, 3)}},
      {{".lokr_w1_a", noise({2, 1}, 1)},
       {".lokr_w1_b", noise({1, 2}, 4)},
       {".lokr_w2_a", noise({3, 4}, 2)},
       {".lokr_w2_b", noise({3, 2}, 3)},
       {".lokr_t2", noise({3, 3, 3, 3}, 5)}},
  };
  for (const StateDict& parts : files) {
    StateDict tensors;
    for (const auto& [suffix, tensor] : parts) tensors[kConvKey + suffix] = tensor;
    const LoraWeights weights =
        load_lora(write_tensors(folder, "lora.safetensors", tensors), model.layers);
    EXPECT_EQ(weights.layers.at(kConv).delta().sizes(), (std::vector<int64_t>{8, 4, 3, 3}))
        << parts.begin()->first;
    EXPECT_EQ(weights.layers.at(kConv).tensors().size(), parts.size());
  }
}

// ---- broken files ----

void expect_broken(const StateDict& tensors, std::initializer_list<std::string_view> pieces) {
  const FakeModel model = small_model();
  const TempFolder folder;
  const auto path = write_tensors(folder, "dog.safetensors", tensors);
  const std::string message =
      test::expect_error<FileError>([&] { load_lora(path, model.layers); }, pieces);
  EXPECT_NE(message.find("dog.safetensors"), std::string::npos) << message;
}

TEST(LoadLora, RefusesHalfOfAPair) {
  StateDict tensors = small_lora();
  tensors.erase(kToQKey + ".lora_up.weight");
  expect_broken(tensors, {kToQKey, "up (lora_B)", "missing"});
  tensors = small_lora();
  tensors.erase(kToQKey + ".lora_down.weight");
  expect_broken(tensors, {kToQKey, "down (lora_A)", "missing"});
  tensors = small_lora();
  tensors[kConvKey + ".alpha"] = torch::scalar_tensor(1.0);
  expect_broken(tensors, {kConvKey + ".alpha", "no factors"});
  const StateDict loha{{kToQKey + ".hada_w1_a", noise({8, 2}, 1)},
                       {kToQKey + ".hada_w1_b", noise({2, 8}, 2)},
                       {kToQKey + ".hada_w2_a", noise({8, 2}, 3)}};
  expect_broken(loha, {"hada_w2_b", "missing"});
  expect_broken({{kToQKey + ".lokr_w1", noise({2, 2}, 1)}}, {"lokr_w2 or lokr_w2_a", "missing"});
  expect_broken({{kToQKey + ".lokr_w2", noise({2, 2}, 1)}}, {"lokr_w1 or lokr_w1_a", "missing"});
  expect_broken(
      {{kToQKey + ".lokr_w1", noise({2, 2}, 1)}, {kToQKey + ".lokr_w2_a", noise({4, 2}, 1)}},
      {"lokr_w2_b", "missing"});
}

TEST(LoadLora, RefusesNumbersThatAreNone) {
  for (const double bad : {NAN, INFINITY, -INFINITY}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
      StateDict tensors = small_lora();
      Tensor factor = tensors[kToQKey + ".lora_up.weight"].to(dtype);
      factor[7][1] = bad;
      tensors[kToQKey + ".lora_up.weight"] = factor;
      expect_broken(tensors, {kToQKey + ".lora_up.weight", "NaN or infinity"});
    }
    StateDict tensors = small_lora();
    tensors[kToQKey + ".alpha"] = torch::scalar_tensor(bad);
    expect_broken(tensors, {kToQKey + ".alpha", "broken"});
  }
}

TEST(LoadLora, TakesTheLargestNumbersThatHalfPrecisionHas) {
  StateDict tensors = small_lora();
  tensors[kToQKey + ".lora_up.weight"] = torch::full({8, 2}, 65504.0, at::kHalf);
  EXPECT_EQ(loaded_scale(tensors), 1.0);
}

TEST(LoadLora, RefusesFactorsOfTheWrongTypeOrForm) {
  const std::string up = kToQKey + ".lora_up.weight";
  StateDict tensors = small_lora();
  tensors[up] = torch::ones({8, 2}, at::kLong);
  expect_broken(tensors, {up, "int64", "float32"});
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{8}, {8, 2, 1}, {8, 0}}) {
    tensors[up] = torch::ones(shape);
    expect_broken(tensors, {up, shape_string(shape)});
  }
  tensors = small_lora();
  tensors[kToQKey + ".alpha"] = torch::ones({2});
  expect_broken(tensors, {kToQKey + ".alpha", "[2]", "one number"});
}

TEST(LoadLora, RefusesFactorsThatDoNotMultiply) {
  const auto with = [](const std::string& key,
                       std::initializer_list<std::pair<std::string, std::vector<int64_t>>> parts) {
    StateDict tensors;
    for (const auto& [suffix, shape] : parts) tensors[key + suffix] = torch::ones(shape);
    return tensors;
  };
  expect_broken(with(kToQKey, {{".lora_down.weight", {2, 8}}, {".lora_up.weight", {8, 3}}}),
                {"do not multiply", "[2, 8]", "[8, 3]"});
  expect_broken(
      with(kConvKey, {{".lora_down.weight", {2, 4, 1, 1}}, {".lora_up.weight", {8, 2, 3, 3}}}),
      {"do not multiply"});
  expect_broken(with(kConvKey, {{".lora_down.weight", {2, 4, 1, 1}},
                                {".lora_up.weight", {8, 2, 1, 1}},
                                {".lora_mid.weight", {3, 2, 3, 3}}}),
                {"do not multiply", "mid [3, 2, 3, 3]"});
  expect_broken(with(kToQKey, {{".hada_w1_a", {8, 2}},
                               {".hada_w1_b", {3, 8}},
                               {".hada_w2_a", {8, 2}},
                               {".hada_w2_b", {3, 8}}}),
                {"do not multiply"});
  expect_broken(with(kToQKey, {{".hada_w1_a", {8, 2}},
                               {".hada_w1_b", {2, 8}},
                               {".hada_w2_a", {4, 2}},
                               {".hada_w2_b", {2, 8}}}),
                {"do not multiply"});
  expect_broken(with(kConvKey, {{".hada_w1_a", {2, 8}},
                                {".hada_w1_b", {2, 4}},
                                {".hada_w2_a", {2, 8}},
                                {".hada_w2_b", {2, 4}},
                                {".hada_t1", {2, 2, 3, 3}}}),
                {"hada_t1 and hada_t2"});
  expect_broken(with(kConvKey, {{".hada_w1_a", {2, 8}},
                                {".hada_w1_b", {2, 4}},
                                {".hada_w2_a", {2, 8}},
                                {".hada_w2_b", {2, 4}},
                                {".hada_t1", {3, 2, 3, 3}},
                                {".hada_t2", {3, 2, 3, 3}}}),
                {"do not multiply"});
  expect_broken(with(kToQKey, {{".lokr_w1", {2, 2, 1, 1}}, {".lokr_w2", {4, 4}}}),
                {"lokr_w1 is no matrix"});
  expect_broken(
      with(kToQKey, {{".lokr_w1_a", {2, 1}}, {".lokr_w1_b", {2, 2}}, {".lokr_w2", {4, 4}}}),
      {"do not multiply"});
  expect_broken(
      with(kToQKey, {{".lokr_w1_a", {2, 1}}, {".lokr_w1_b", {1, 2, 1, 1}}, {".lokr_w2", {4, 4}}}),
      {"lokr_w1_b is no matrix"});
  expect_broken(with(kConvKey, {{".lokr_w1", {2, 2}},
                                {".lokr_w2_a", {3, 4}},
                                {".lokr_w2_b", {2, 2}},
                                {".lokr_t2", {3, 3, 3, 3}}}),
                {"do not multiply"});
}

TEST(LoadLora, RefusesTwoKindsOfFactorsOnOneLayer) {
  StateDict tensors = small_lora();
  tensors[kToQKey + ".lokr_w1"] = noise({2, 2}, 1);
  expect_broken(tensors, {kToQKey, "two kinds"});
}

TEST(LoadLora, TakesALayerUnderTwoSpellingsOnlyWhereTheyAgree) {
  StateDict tensors = small_lora();
  const std::string other =
      "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_q.lora_A.weight";
  tensors[other] = tensors[kToQKey + ".lora_down.weight"];
  EXPECT_EQ(loaded_scale(tensors), 1.0);
  tensors[other] = noise({2, 8}, 77);
  expect_broken(tensors, {kToQKey + ".lora_down.weight", other, "differ"});
}

TEST(LoadLora, RefusesKindsThatItCannotApplyByName) {
  const std::pair<std::string, std::string> kinds[] = {
      {".dora_scale", "DoRA"},
      {".lora_magnitude_vector", "DoRA"},
      {".lora_magnitude_vector.default.weight", "DoRA"},
      {".oft_blocks", "OFT"},
      {".boft_R", "OFT"},
      {".ia3_l", "(IA)3"},
      {".on_input", "(IA)3"},
      {".a1.weight", "GLoRA"},
      {".diff", "full difference"},
      {".diff_b", "full difference"},
      {".w_norm", "normalisation"},
      {".b_norm", "normalisation"},
      {".lora_B.bias", "biases"},
      {".lora_embedding_A", "embeddings"},
      {".set_weight", "full difference"},
  };
  for (const auto& [suffix, name] : kinds) {
    StateDict tensors = small_lora();
    tensors[kToQKey + suffix] = noise({8, 1}, 1);
    expect_broken(tensors, {kToQKey + suffix, name, "extract a plain LoRA"});
  }
}

TEST(LoadLora, RefusesPickles) {
  const FakeModel model = small_model();
  const TempFolder folder;
  for (const char* name : {"dog.pt", "dog.ckpt", "dog.bin", "dog.PTH"})
    test::expect_error<FileError>([&] { load_lora(folder.file(name, "x"), model.layers); },
                                  {name, "pickle", "safetensors"});
}

TEST(LoadLora, SaysWhatAFileIsThatIsNoLora) {
  const std::pair<std::string, std::string> files[] = {
      {"model.diffusion_model.input_blocks.0.0.weight", "model checkpoint"},
      {"conditioner.embedders.0.transformer.x.weight", "model checkpoint"},
      {"down_blocks.0.resnets.0.conv1.weight", "component of a model"},
      {"text_model.encoder.layers.0.mlp.fc1.weight", "component of a model"},
      {"decoder.up_blocks.0.resnets.0.conv1.weight", "--vae"},
      {"moe_lora_unet_x.softmoe.Phi_1.weight", "gates"},
      {"input_1.weight", "none of its 1 keys"},
      {"input_k.weight", "hypernetwork"},
      {"emb_params", "textual inversion"},
      {"something.alpha", "none of its 1 keys"},
  };
  for (const auto& [key, kind] : files) expect_broken({{key, noise({2, 2}, 1)}}, {kind});
  expect_broken({}, {"none of its 0 keys"});
}

TEST(LoadLora, RefusesAFileThatIsNotThere) {
  const FakeModel model = small_model();
  test::expect_error<FileError>([&] { load_lora("nowhere/dog.safetensors", model.layers); },
                                {"nowhere/dog.safetensors", "does not exist"});
}

// ---- fit ----

std::string expect_unfit(const StateDict& tensors, std::initializer_list<std::string_view> pieces,
                         LoadLoraOptions options = {},
                         const std::map<std::string, std::string>& metadata = {}) {
  const FakeModel model = small_model();
  const TempFolder folder;
  const auto path = write_tensors(folder, "dog.safetensors", tensors, metadata);
  return test::expect_error<FitError>([&] { load_lora(path, model.layers, options); }, pieces);
}

StateDict pair_of(const std::string& module, int64_t out, int64_t in) {
  return {{module + ".lora_down.weight", noise({2, in}, 1)},
          {module + ".lora_up.weight", noise({out, 2}, 2)}};
}

TEST(LoadLora, AFileThatFitsNothingIsAnErrorEvenWhereAPartWouldDo) {
  const StateDict tensors = pair_of("lora_unet_nowhere", 8, 8);
  expect_unfit(tensors, {"dog.safetensors", "does not fit this SD 1.x model", "none of its 2 keys",
                         "'lora_unet_nowhere.lora_down.weight' (names no layer)"});
  expect_unfit(tensors, {"none of its 2 keys"}, {.allow_partial = true});
}

TEST(LoadLora, AFileThatFitsInPartIsAnErrorThatNamesTheFirstKeys) {
  StateDict tensors = small_lora();
  for (const char* name : {"a", "b", "c"})
    tensors.merge(pair_of("lora_unet_" + std::string(name), 8, 8));
  tensors["just_a_tensor"] = noise({2}, 1);
  const std::string message = expect_unfit(
      tensors, {"only in part", "7 of its 9 keys", "'just_a_tensor' (is no LoRA key)",
                "'lora_unet_a.lora_down.weight' (names no layer)", "--allow-partial-lora"});
  EXPECT_EQ(message.find("lora_unet_c"), std::string::npos) << message;
}

TEST(LoadLora, APartIsTakenWhereItIsAllowedAndTheRestIsNamed) {
  StateDict tensors = small_lora();
  tensors.merge(pair_of("lora_unet_a", 8, 8));
  const FakeModel model = small_model();
  const TempFolder folder;
  const LoraWeights weights = load_lora(write_tensors(folder, "dog.safetensors", tensors),
                                        model.layers, {.allow_partial = true});
  EXPECT_EQ(weights.layers.size(), 1U);
  EXPECT_EQ(weights.num_keys, 4);
  EXPECT_EQ(weights.skipped_keys, (std::vector<std::string>{"lora_unet_a.lora_down.weight",
                                                            "lora_unet_a.lora_up.weight"}));
}

TEST(LoadLora, AShapeThatDiffersDoesNotFit) {
  StateDict tensors = small_lora();
  tensors.merge(pair_of("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k", 8, 10));
  expect_unfit(tensors,
               {"only in part", "2 of its 4 keys", "changes [8, 10], the layer is [8, 6]"});
  const FakeModel model = small_model();
  const TempFolder folder;
  const LoraWeights weights = load_lora(write_tensors(folder, "dog.safetensors", tensors),
                                        model.layers, {.allow_partial = true});
  EXPECT_EQ(weights.layers.size(), 1U);
  EXPECT_EQ(weights.skipped_keys.size(), 2U);
}

TEST(LoadLora, AConvolutionDoesNotFitALinearLayer) {
  StateDict tensors{{kToQKey + ".lora_down.weight", noise({2, 8, 3, 3}, 1)},
                    {kToQKey + ".lora_up.weight", noise({8, 2, 1, 1}, 2)}};
  expect_unfit(tensors, {"changes [8, 8, 3, 3], the layer is [8, 8]"});
  tensors = {{kConvKey + ".lora_down.weight", noise({2, 4}, 1)},
             {kConvKey + ".lora_up.weight", noise({8, 2}, 2)}};
  expect_unfit(tensors, {"changes [8, 4, 1, 1], the layer is [8, 4, 3, 3]"});
}

TEST(LoadLora, GuessesWhichModelAFileWasMadeFor) {
  const std::string to_k = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
  const std::string text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj";
  expect_unfit(pair_of(to_k, 320, 768), {"it looks made for SD 1.x, but of another size"});
  expect_unfit(pair_of(to_k, 320, 1024), {"it looks made for SD 2.x"});
  expect_unfit(pair_of(to_k, 640, 2048), {"it looks made for SDXL"});
  expect_unfit(pair_of(text, 1024, 1024), {"it looks made for SD 2.x"});
  expect_unfit(pair_of("lora_te2_text_model_encoder_layers_0_mlp_fc1", 8, 8),
               {"it looks made for SDXL"});
  expect_unfit(pair_of("lora_unet_double_blocks_0_img_attn_qkv", 8, 8), {"it looks made for Flux"});
  expect_unfit(pair_of("lora_unet_joint_blocks_0_x_block_attn_qkv", 8, 8),
               {"it looks made for SD 3"});
  expect_unfit(pair_of("lora_unet_x", 8, 8), {"it looks made for SDXL"}, {},
               {{"ss_base_model_version", "sdxl_base_v1-0"}});
  expect_unfit(pair_of("lora_unet_x", 8, 8), {"it looks made for SD 2.x"}, {},
               {{"modelspec.architecture", "stable-diffusion-v2-768-v/lora"}});
  const std::string message = expect_unfit(pair_of("lora_unet_x", 8, 8), {});
  EXPECT_EQ(message.find("made for"), std::string::npos) << message;
}

TEST(LoadLora, ReadsModelsThatHaveNoWeightsYet) {
  FakeModel model;
  model.add(kToQ, torch::zeros({1}).expand({8, 8}));
  const TempFolder folder;
  EXPECT_EQ(
      load_lora(write_tensors(folder, "dog.safetensors", small_lora()), model.layers).layers.size(),
      1U);
}

}  // namespace
}  // namespace molar
