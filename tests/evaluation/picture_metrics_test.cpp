#include "molar/evaluation/picture_metrics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "support/expect_close.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempFolder;

const fs::path kGoldens = fs::path(MOLAR_TEST_DATA_DIR) / "metrics";
const fs::path kToyland = fs::path(MOLAR_SOURCE_DIR) / "models/toyland";
// Values of length-1 vectors; float32 on both sides, sums in another order.
constexpr Tolerance kSameMathOtherOrder{.atol = 1e-5, .rtol = 1e-4};

struct Goldens {
  Json manifest = read_json_file(kGoldens / "MANIFEST.json");
  SafetensorsFile file = SafetensorsFile::open(kGoldens / "embeddings.safetensors");

  std::vector<Tensor> pictures() const {
    std::vector<Tensor> all;
    for (const std::string name : manifest.at("pictures"))
      all.push_back(file.tensor("picture." + name));
    return all;
  }
  Tensor embeddings(const std::string& model) const {
    std::vector<Tensor> all;
    for (const std::string name : manifest.at("pictures"))
      all.push_back(file.tensor(model + ".embeds." + name));
    return at::stack(all);
  }
};

/// A copy of a model's folder with its config changed.
fs::path changed(const TempFolder& folder, const std::string& model,
                 const std::function<void(Json&)>& change) {
  const fs::path copy = folder / model;
  fs::remove_all(copy);
  fs::copy(kGoldens / model, copy);
  Json config = read_json_file(copy / "config.json");
  change(config);
  folder.file(model + "/config.json", config.dump());
  return copy;
}

TEST(ImageTextPair, EmbedsPicturesAndTextsAsTransformersDoes) {
  const Goldens goldens;
  ImageTextPair pair = ImageTextPair::load(kGoldens / "clip", at::kCPU);
  EXPECT_TRUE(is_close(pair.embed_pictures(goldens.pictures()), goldens.embeddings("clip"),
                       kSameMathOtherOrder));
  const auto texts = goldens.manifest.at("texts").get<std::vector<std::string>>();
  EXPECT_TRUE(is_close(pair.embed_texts(texts), goldens.file.tensor("clip.text_embeds"),
                       kSameMathOtherOrder));
}

TEST(ImageTextPair, ScoresPicturesAsHpsV2Does) {
  const Goldens goldens;
  const SafetensorsFile hps =
      SafetensorsFile::open(fs::path(MOLAR_TEST_DATA_DIR) / "hps/goldens.safetensors");
  ImageTextPair pair = ImageTextPair::load(kGoldens / "clip", at::kCPU, PictureProtocol::kHpsV2);
  const auto texts = goldens.manifest.at("texts").get<std::vector<std::string>>();
  const Tensor scores =
      100 * pair.embed_pictures(goldens.pictures()).mm(pair.embed_texts(texts).t());
  EXPECT_TRUE(is_close(scores, hps.tensor("scores"), {.atol = 1e-3, .rtol = 1e-4}));
  // A wide picture is seen whole here, and cut in the model's own way.
  EXPECT_FALSE(is_close(pair.embed_pictures(goldens.pictures()), goldens.embeddings("clip"),
                        {.atol = 1e-2, .rtol = 1e-2}));
  const ImageProcessor processor = ImageProcessor::hps_v2(32);
  for (const std::string name : goldens.manifest.at("pictures"))
    EXPECT_TRUE(is_close(processor.process(goldens.file.tensor("picture." + name)),
                         hps.tensor("pixels." + name), kSameMathOtherOrder))
        << name;
}

TEST(SelfSupervisedEncoder, EmbedsPicturesAsTransformersDoes) {
  const Goldens goldens;
  for (const std::string model : {"vit", "dinov2"}) {
    SelfSupervisedEncoder encoder = SelfSupervisedEncoder::load(kGoldens / model, at::kCPU);
    EXPECT_TRUE(is_close(encoder.embed_pictures(goldens.pictures()), goldens.embeddings(model),
                         kSameMathOtherOrder))
        << model;
  }
}

TEST(PictureMetrics, DoNotDependOnHowPicturesAreBatched) {
  std::vector<Tensor> pictures;
  for (int64_t i = 0; i < 33; ++i) pictures.push_back(at::full({8, 8, 3}, 7 * i, at::kByte));
  SelfSupervisedEncoder encoder = SelfSupervisedEncoder::load(kGoldens / "vit", at::kCPU);
  const Tensor all = encoder.embed_pictures(pictures);
  ASSERT_EQ(all.size(0), 33);
  EXPECT_TRUE(is_close(all[32], encoder.embed_pictures({pictures[32]})[0], kSameMathOtherOrder));
}

TEST(PictureMetrics, ReadTheBundledModels) {
  const std::vector<Tensor> pictures{at::randint(0, 256, {64, 64, 3}).to(at::kByte)};
  ImageTextPair pair = ImageTextPair::load(kToyland / "clip", at::kCPU);
  EXPECT_NEAR(pair.embed_pictures(pictures).norm().item<double>(), 1.0, 1e-5);
  EXPECT_EQ(pair.embed_texts({"a red house"}).size(1), pair.embed_pictures(pictures).size(1));
  SelfSupervisedEncoder encoder = SelfSupervisedEncoder::load(kToyland / "dino", at::kCPU);
  EXPECT_NEAR(encoder.embed_pictures(pictures).norm().item<double>(), 1.0, 1e-5);
}

TEST(PictureMetrics, ReadTheProcessorOfAWholeProcessorFile) {
  const Goldens goldens;
  const TempFolder folder;
  const fs::path copy = changed(folder, "clip", [](Json&) {});
  const Json own = read_json_file(copy / "preprocessor_config.json");
  fs::remove(copy / "preprocessor_config.json");
  folder.file("clip/processor_config.json", Json{{"image_processor", own}}.dump());
  ImageTextPair pair = ImageTextPair::load(copy, at::kCPU);
  EXPECT_TRUE(is_close(pair.embed_pictures(goldens.pictures()), goldens.embeddings("clip"),
                       kSameMathOtherOrder));
  folder.file("clip/processor_config.json", "{}");
  expect_error<FileError>([&] { ImageTextPair::load(copy, at::kCPU); }, {"image_processor"});
}

TEST(ImageTextPair, RefusesWhatIsNoPair) {
  const TempFolder folder;
  const auto refuse = [&](const std::function<void(Json&)>& change,
                          std::initializer_list<std::string_view> pieces) {
    const fs::path copy = changed(folder, "clip", change);
    expect_error<FileError>([&] { ImageTextPair::load(copy, at::kCPU); }, pieces);
  };
  refuse([](Json& config) { config.erase("vision_config"); }, {"vision_config", "missing"});
  refuse([](Json& config) { config["model_type"] = "siglip"; }, {"model_type", "siglip"});
  refuse([](Json& config) { config["vision_config"]["hidden_act"] = "relu"; }, {"relu"});
  refuse([](Json& config) { config["vision_config"]["num_attention_heads"] = 5; },
         {"multiple", "5"});
  refuse([](Json& config) { config["vision_config"]["patch_size"] = 0; }, {"patch_size", "0"});
  refuse([](Json& config) { config["vision_config"]["hidden_size"] = 64; }, {"[", "64"});
  refuse([](Json& config) { config["vision_config"]["num_hidden_layers"] = 3; }, {"missing"});
  expect_error<FileError>([&] { ImageTextPair::load(folder / "nowhere", at::kCPU); },
                          {"nowhere", "config.json"});
  fs::remove(changed(folder, "clip", [](Json&) {}) / "preprocessor_config.json");
  expect_error<FileError>([&] { ImageTextPair::load(folder / "clip", at::kCPU); },
                          {"preprocessor_config.json"});
}

TEST(SelfSupervisedEncoder, RefusesOtherModels) {
  const TempFolder folder;
  const auto refuse = [&](const std::string& model, const std::function<void(Json&)>& change,
                          std::initializer_list<std::string_view> pieces) {
    const fs::path copy = changed(folder, model, change);
    expect_error<FileError>([&] { SelfSupervisedEncoder::load(copy, at::kCPU); }, pieces);
  };
  refuse("vit", [](Json& config) { config["model_type"] = "deit"; }, {"deit", "dinov2"});
  refuse("vit", [](Json& config) { config["hidden_act"] = "relu"; }, {"relu"});
  refuse("vit", [](Json& config) { config["num_attention_heads"] = 5; }, {"multiple", "5"});
  refuse("vit", [](Json& config) { config["num_hidden_layers"] = 999; }, {"999"});
  refuse("dinov2", [](Json& config) { config["use_swiglu_ffn"] = true; }, {"use_swiglu_ffn"});
}

TEST(SelfSupervisedEncoder, RefusesPicturesThatItCannotCutIntoPatches) {
  const TempFolder folder;
  const fs::path copy = changed(folder, "vit", [](Json&) {});
  Json processor = read_json_file(copy / "preprocessor_config.json");
  processor["size"] = {{"height", 41}, {"width", 40}};
  folder.file("vit/preprocessor_config.json", processor.dump());
  SelfSupervisedEncoder encoder = SelfSupervisedEncoder::load(copy, at::kCPU);
  expect_error<Error>([&] { encoder.embed_pictures({at::zeros({8, 8, 3}, at::kByte)}); },
                      {"40 x 41", "8"});
}

}  // namespace
}  // namespace molar
