#include "molar/models/clip_text_model.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "molar/models/model_loader.h"
#include "support/expect_close.h"

namespace molar {
namespace {

const std::filesystem::path kGoldens = MOLAR_TEST_DATA_DIR;
const LoadOptions kFloat32{.device = at::kCPU, .dtype = at::kFloat};
// float32 on both sides; sums of at most 64 terms in another order.
constexpr Tolerance kSameMathOtherOrder{.atol = 1e-5, .rtol = 1e-4};

/// A text encoder of a tiny model, under the names that every checkpoint is brought to.
Component open_encoder(const std::filesystem::path& folder) {
  Component component{.name = folder.filename(),
                      .source = folder.string(),
                      .config = read_json_file(folder / "config.json"),
                      .weights = {}};
  for (const auto& [name, tensor] :
       SafetensorsFile::open(folder / "model.safetensors").state_dict()) {
    const bool complete = name.starts_with("text_model.") || name.starts_with("text_projection.");
    component.weights.emplace((complete ? "" : "text_model.") + name, tensor);
  }
  return component;
}

Component tiny(const std::string& encoder = "sd15-tiny/text_encoder") {
  return open_encoder(kGoldens / "models" / encoder);
}

CLIPTextOutput run(CLIPTextModel& model, const Tensor& ids) {
  const at::NoGradGuard no_grad;
  return model->forward(ids);
}

template <typename Exception, typename Function>
std::string refusal(const Function& function) {
  try {
    function();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

TEST(CLIPTextModel, ComputesWhatTransformersComputesLayerByLayer) {
  const Json manifest = read_json_file(kGoldens / "text/MANIFEST.json");
  ASSERT_EQ(manifest.at("cases").size(), 8U);
  for (const Json& one : manifest.at("cases")) {
    const std::string name = one.at("name");
    const auto golden =
        SafetensorsFile::open(kGoldens / "text" / (name + ".safetensors")).state_dict();
    CLIPTextModel model =
        load_text_encoder(open_encoder(kGoldens / one.at("model").get<std::string>()), kFloat32);
    const CLIPTextOutput output = run(model, golden.at("ids"));
    EXPECT_EQ(output.text_embeds.defined(), golden.contains("text_embeds")) << name;
    // ids, last_hidden_state, pooled_output, text_embeds, and nothing but hidden states
    EXPECT_EQ(output.hidden_states.size(), golden.size() - 3 - golden.count("text_embeds")) << name;
    for (size_t i = 0; i < output.hidden_states.size(); ++i)
      EXPECT_TRUE(is_close(output.hidden_states[i], golden.at("hidden_states." + std::to_string(i)),
                           kSameMathOtherOrder))
          << name << ", first look at hidden state " << i;
    EXPECT_TRUE(
        is_close(output.last_hidden_state, golden.at("last_hidden_state"), kSameMathOtherOrder))
        << name;
    EXPECT_TRUE(is_close(output.pooled_output, golden.at("pooled_output"), kSameMathOtherOrder))
        << name;
    if (!output.text_embeds.defined()) continue;
    EXPECT_TRUE(is_close(output.text_embeds, golden.at("text_embeds"), kSameMathOtherOrder))
        << name;
  }
}

TEST(CLIPTextModel, FinalNormOfTheLastStateIsTheResult) {
  CLIPTextModel model = load_text_encoder(tiny(), kFloat32);
  const CLIPTextOutput output = run(model, torch::tensor({{812, 5, 6, 813}}, at::kLong));
  EXPECT_TRUE(model->final_layer_norm(output.hidden_states.back()).equal(output.last_hidden_state));
}

TEST(CLIPTextModel, TokensDoNotSeeWhatFollows) {
  CLIPTextModel model = load_text_encoder(tiny(), kFloat32);
  const Tensor ids = torch::tensor({{812, 5, 6, 7}, {812, 5, 600, 700}}, at::kLong);
  const Tensor states = run(model, ids).hidden_states.back();  // [2, 4, D]
  EXPECT_TRUE(is_close(states[0].slice(0, 0, 2), states[1].slice(0, 0, 2)));
  EXPECT_FALSE(is_close(states[0].slice(0, 2), states[1].slice(0, 2)));
}

TEST(CLIPTextModel, PoolsAtTheLargestIdWhereTheConfigSaysTwo) {
  CLIPTextModel model = load_text_encoder(tiny(), kFloat32);  // eos_token_id 2
  const Tensor ids = torch::tensor({{812, 2, 813, 813, 0}, {812, 9, 8, 7, 6}}, at::kLong);
  const CLIPTextOutput output = run(model, ids);
  EXPECT_TRUE(output.pooled_output[0].equal(output.last_hidden_state[0][2])) << "the first of two";
  EXPECT_TRUE(output.pooled_output[1].equal(output.last_hidden_state[1][0]));
}

TEST(CLIPTextModel, PoolsAtTheFirstEndTokenOtherwise) {
  Component component = tiny();
  component.config["eos_token_id"] = 7;
  CLIPTextModel model = load_text_encoder(component, kFloat32);
  const Tensor ids = torch::tensor({{812, 813, 7, 7}, {812, 813, 1, 1}}, at::kLong);
  const CLIPTextOutput output = run(model, ids);
  EXPECT_TRUE(output.pooled_output[0].equal(output.last_hidden_state[0][2]));
  EXPECT_TRUE(output.pooled_output[1].equal(output.last_hidden_state[1][0])) << "none: the start";
}

TEST(CLIPTextModel, HalfPrecisionFilesLoadIntoFloat32) {
  // Its weights were rounded to float16 (11 bits): differences of about 2^-11 of each value remain.
  CLIPTextModel half = load_text_encoder(tiny("sd15-tiny-transformers4/text_encoder"), kFloat32);
  CLIPTextModel full = load_text_encoder(tiny(), kFloat32);
  const Tensor ids = torch::tensor({{812, 5, 6, 813}}, at::kLong);
  const Tensor actual = run(half, ids).last_hidden_state;
  EXPECT_EQ(actual.scalar_type(), at::kFloat);
  EXPECT_TRUE(is_close(actual, run(full, ids).last_hidden_state, {.atol = 2e-2, .rtol = 1e-2}));
}

TEST(CLIPTextModel, ComputesInBfloat16) {
  const LoadOptions options{.device = at::kCPU, .dtype = at::kBFloat16};
  CLIPTextModel model = load_text_encoder(tiny("sdxl-tiny/text_encoder_2"), options);
  CLIPTextModel exact = load_text_encoder(tiny("sdxl-tiny/text_encoder_2"), kFloat32);
  const Tensor ids = torch::tensor({{812, 5, 6, 813}}, at::kLong);
  const CLIPTextOutput output = run(model, ids);
  EXPECT_EQ(output.text_embeds.scalar_type(), at::kBFloat16);
  // 8 bits of precision through 3 layers.
  EXPECT_TRUE(
      is_close(output.text_embeds, run(exact, ids).text_embeds, {.atol = 0.15, .rtol = 0.1}));
}

TEST(CLIPTextModel, PositionIdsOfOldFilesAreAccepted) {
  Component component = tiny();
  component.weights["text_model.embeddings.position_ids"] = torch::arange(77).unsqueeze(0);
  EXPECT_NO_THROW(load_text_encoder(component, kFloat32));
}

TEST(CLIPTextModel, MissingAndUnexpectedWeightsAreRefused) {
  Component component = tiny();
  component.weights.erase("text_model.final_layer_norm.bias");
  component.weights["text_projection.weight"] = torch::zeros({32, 32});
  const auto message = refusal<FileError>([&] { load_text_encoder(component, kFloat32); });
  EXPECT_SAYS(message, "text_model.final_layer_norm.bias");
  EXPECT_SAYS(message, "text_projection.weight");
}

TEST(CLIPTextModel, WrongIdsAreRefused) {
  CLIPTextModel model = load_text_encoder(tiny(), kFloat32);
  for (const Tensor& ids : {torch::zeros({1, 78}, at::kLong), torch::zeros({3}, at::kLong),
                            torch::zeros({1, 0}, at::kLong), torch::zeros({1, 3}, at::kInt)})
    EXPECT_SAYS(refusal<Error>([&] { run(model, ids); }), "token ids must be int64 [B, L]");
  EXPECT_SAYS(refusal<FileError>([&] { run(model, torch::tensor({{1, 814}}, at::kLong)); }),
              "token id 814 is not in the text encoder's vocabulary of 814");
  EXPECT_SAYS(refusal<FileError>([&] { run(model, torch::tensor({{-1, 8}}, at::kLong)); }),
              "token id -1");
}

TEST(CLIPTextConfig, HasTransformersDefaults) {
  const auto config = CLIPTextConfig::from_json(Json::object(), "text_encoder/config.json");
  EXPECT_EQ(config.vocab_size, 49408);
  EXPECT_EQ(config.hidden_size, 512);
  EXPECT_EQ(config.intermediate_size, 2048);
  EXPECT_EQ(config.num_hidden_layers, 12);
  EXPECT_EQ(config.num_attention_heads, 8);
  EXPECT_EQ(config.max_position_embeddings, 77);
  EXPECT_EQ(config.hidden_act, CLIPActivation::kQuickGelu);
  EXPECT_EQ(config.layer_norm_eps, 1e-5);
  EXPECT_EQ(config.eos_token_id, 49407);
  EXPECT_FALSE(config.projection_dim);
}

TEST(CLIPTextConfig, ReadsEveryValue) {
  const auto config = CLIPTextConfig::from_json({{"architectures", {"CLIPTextModelWithProjection"}},
                                                 {"vocab_size", 100},
                                                 {"hidden_size", 24},
                                                 {"intermediate_size", 48},
                                                 {"num_hidden_layers", 3},
                                                 {"num_attention_heads", 6},
                                                 {"max_position_embeddings", 33},
                                                 {"hidden_act", "gelu"},
                                                 {"layer_norm_eps", 1e-6},
                                                 {"eos_token_id", 99},
                                                 {"projection_dim", 12},
                                                 {"attention_dropout", 0.1},
                                                 {"dropout", 0.0},
                                                 {"torch_dtype", "float16"},
                                                 {"_name_or_path", "x"}},
                                                "c");
  EXPECT_EQ(config.vocab_size, 100);
  EXPECT_EQ(config.hidden_size, 24);
  EXPECT_EQ(config.intermediate_size, 48);
  EXPECT_EQ(config.num_hidden_layers, 3);
  EXPECT_EQ(config.num_attention_heads, 6);
  EXPECT_EQ(config.max_position_embeddings, 33);
  EXPECT_EQ(config.hidden_act, CLIPActivation::kGelu);
  EXPECT_EQ(config.layer_norm_eps, 1e-6);
  EXPECT_EQ(config.eos_token_id, 99);
  EXPECT_EQ(config.projection_dim, 12);
}

TEST(CLIPTextConfig, RefusesByNameWhatItDoesNotSupport) {
  const std::pair<const char*, Json> cases[] = {
      {"'hidden_act'", {{"hidden_act", "gelu_new"}}},
      {"'model_type'", {{"model_type", "t5"}}},
      {"'architectures'", {{"architectures", {"CLIPModel"}}}},
      {"'eos_token_id'", {{"eos_token_id", {1, 2}}}},
      {"'vocab_size'", {{"vocab_size", 0}}},
      {"'hidden_size'", {{"hidden_size", -8}}},
      {"'hidden_size'", {{"hidden_size", 30}}},  // not a multiple of 8 heads
      {"'hidden_size'", {{"hidden_size", int64_t{1} << 40}}},
      {"'num_hidden_layers'", {{"num_hidden_layers", 0}}},
      {"'num_hidden_layers' is 65, wanted 1 to 64", {{"num_hidden_layers", 65}}},
      {"'hidden_size' = null", {{"hidden_size", nullptr}}},
      {"'eos_token_id' = null", {{"eos_token_id", nullptr}}},
      {"'num_attention_heads'", {{"num_attention_heads", 0}}},
      {"'intermediate_size'", {{"intermediate_size", "big"}}},
      {"'max_position_embeddings'", {{"max_position_embeddings", 0}}},
      {"'projection_dim'",
       {{"projection_dim", 0}, {"architectures", {"CLIPTextModelWithProjection"}}}},
      {"'layer_norm_eps'", {{"layer_norm_eps", "small"}}},
      {"'use_rope'", {{"use_rope", true}}},
  };
  for (const auto& [part, json] : cases) {
    const auto message =
        refusal<FileError>([&] { CLIPTextConfig::from_json(json, "text_encoder/config.json"); });
    EXPECT_SAYS(message, part);
    EXPECT_SAYS(message, "text_encoder/config.json");
  }
}

}  // namespace
}  // namespace molar
