#include "molar/pipeline/run_record.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>

#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

RunRecord record() {
  RunRecord r;
  r.request.prompt = "a dog: Steps: 99, Seed: 7";
  r.request.negative_prompt = "blurry";
  r.request.num_steps = 20;
  r.request.seed = 42;
  r.request.width_px = 512;
  r.request.height_px = 768;
  r.request.clip_skip = 1;
  r.model.model = "models/sd, 15.safetensors";
  r.sampler = "euler_a";
  r.loras.push_back({.file = "dog.safetensors",
                     .role = "subject",
                     .weight = 0.8,
                     .sha256 = std::string(64, 'a')});
  r.loras.push_back(
      {.file = "ink.safetensors", .role = "style", .weight = 1.0, .sha256 = std::string(64, 'b')});
  r.merge_method = "direct";
  return r;
}

/// The reader that A1111 and Civitai use, on the last line.
std::map<std::string, std::string> read_pairs(const std::string& text) {
  const std::string line = text.substr(text.rfind('\n') + 1);
  const std::regex pair(R"rx(\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$))rx");
  std::map<std::string, std::string> pairs;
  for (std::sregex_iterator it(line.begin(), line.end(), pair), end; it != end; ++it)
    pairs[(*it)[1]] = (*it)[2];
  return pairs;
}

fs::path write_png(const std::string& name, const PngText& text) {
  const fs::path path = fs::path(::testing::TempDir()) / name;
  std::ofstream(path, std::ios::binary) << encode_png(at::zeros({2, 2, 3}, at::kByte), text);
  return path;
}

TEST(RunRecord, ParametersAreReadBackByTheEcosystemsGrammar) {
  const std::string text = record().parameters_text();
  EXPECT_TRUE(text.starts_with("a dog: Steps: 99, Seed: 7\nNegative prompt: blurry\nSteps: 20, "));
  const auto pairs = read_pairs(text);
  EXPECT_EQ(pairs.at("Steps"), "20");
  EXPECT_EQ(pairs.at("Seed"), "42");
  EXPECT_EQ(pairs.at("Sampler"), "Euler a");
  EXPECT_EQ(pairs.at("Size"), "512x768");
  EXPECT_EQ(pairs.at("Clip skip"), "2");
  EXPECT_EQ(pairs.at("Model"), "\"sd, 15\"");
  EXPECT_EQ(pairs.at("LoRA merge"), "direct");
  EXPECT_EQ(pairs.at("Lora hashes"), "\"dog: aaaaaaaaaaaa, ink: bbbbbbbbbbbb\"");
}

TEST(RunRecord, EverySamplerHasItsA1111Name) {
  RunRecord r = record();
  r.sampler = "dpmpp_2m_karras";
  EXPECT_EQ(read_pairs(r.parameters_text()).at("Sampler"), "DPM++ 2M Karras");
}

TEST(RunRecord, APictureGivesItsRequestBack) {
  const fs::path path = write_png("record.png", record().png_text());
  const RecordedRequest recorded = read_recorded_request(path);
  EXPECT_EQ(recorded.request.to_json(), record().request.to_json());
  EXPECT_EQ(recorded.model.model, fs::current_path() / "models/sd, 15.safetensors");
}

TEST(RunRecord, NonLatinPromptsSurvive) {
  RunRecord r = record();
  r.request.prompt = "犬 in été 🐕";
  EXPECT_EQ(read_recorded_request(write_png("unicode.png", r.png_text())).request.prompt,
            "犬 in été 🐕");
}

TEST(RunRecord, HoldsAbsolutePaths) {
  RunRecord r = record();
  r.model.vae = "vae";
  r.model.tokenizer = "/t/tokenizer";
  const Json json = r.to_json();
  const auto here = [](const char* name) { return (fs::current_path() / name).string(); };
  EXPECT_EQ(json.at("model").at("path"), here("models/sd, 15.safetensors"));
  EXPECT_EQ(json.at("model").at("vae"), here("vae"));
  EXPECT_EQ(json.at("model").at("tokenizer"), "/t/tokenizer");
  EXPECT_EQ(json.at("loras").at(0).at("file"), here("dog.safetensors"));
}

TEST(RunRecord, ReadsTheModelStrictly) {
  const auto read = [](const char* model) {
    const std::string text = fmt::format(R"({{"schema": 1, "request": {{}}, "model": {}}})", model);
    return read_recorded_request(write_png("model.png", {{"molar", text}})).model;
  };
  const ModelRequest older = read(R"({"path": "models/sd", "vae": "vae", "device": "cpu"})");
  EXPECT_EQ(older.model, "models/sd");
  EXPECT_EQ(older.vae, "vae");
  for (const char* model :
       {R"({"path": "m", "colour": "red"})", R"({"path": ""})", R"({"path": 1})", R"({})", "[]",
        R"({"path": "m\u0000"})", R"({"path": "m", "vae": ""})", R"({"path": "m", "dtype": "f64"})",
        R"({"path": "m", "prediction-type": "eps"})"})
    test::expect_error<InputError>([&] { read(model); }, {"model.png"});
}

TEST(RunRecord, RefusesPicturesWithoutAReadableRecord) {
  EXPECT_THROW(read_recorded_request(write_png("none.png", {{"parameters", "x"}})), InputError);
  EXPECT_THROW(read_recorded_request(write_png("text.png", {{"molar", "not json"}})), InputError);
  EXPECT_THROW(read_recorded_request(write_png("schema.png", {{"molar", R"({"schema": 2})"}})),
               InputError);
  EXPECT_THROW(read_recorded_request(write_png("empty.png", {{"molar", R"({"schema": 1})"}})),
               InputError);
}

TEST(RunRecord, TwoRunsOfOneRequestWriteTheSameText) {
  EXPECT_EQ(record().png_text(), record().png_text());
}

}  // namespace
}  // namespace molar
