#include "molar/evaluation/image_processor.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "support/expect_close.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;

const std::filesystem::path kGoldens = std::filesystem::path(MOLAR_TEST_DATA_DIR) / "metrics";
constexpr const char* kNumbers = R"("image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5])";

ImageProcessor processor(const std::string& fields) {
  return ImageProcessor::from_json(parse_json(fmt::format("{{{}}}", fields), "test"), "test");
}

TEST(ImageProcessor, MakesThePixelsThatTransformersMakes) {
  const Json manifest = read_json_file(kGoldens / "MANIFEST.json");
  const auto goldens = SafetensorsFile::open(kGoldens / "embeddings.safetensors");
  ASSERT_EQ(manifest.at("pictures").size(), 5U);
  for (const std::string model : {"clip", "vit", "dinov2"}) {
    const auto file = kGoldens / model / "preprocessor_config.json";
    const ImageProcessor one = ImageProcessor::from_json(read_json_file(file), file.string());
    for (const std::string name : manifest.at("pictures"))
      // The same grey levels; scaling and normalising in another order.
      EXPECT_TRUE(is_close(one.process(goldens.tensor("picture." + name)),
                           goldens.tensor(model + ".pixels." + name), {.atol = 1e-6, .rtol = 1e-6}))
          << model << " " << name;
  }
}

TEST(ImageProcessor, ReadsTheSizesOfOlderFiles) {
  const Tensor picture = at::randint(0, 256, {30, 60, 3}).to(at::kByte);
  const ImageProcessor clip = processor(fmt::format(
      R"("feature_extractor_type": "CLIPFeatureExtractor", "size": 16, "crop_size": 12, {})",
      kNumbers));
  EXPECT_EQ(clip.process(picture).sizes(), at::IntArrayRef({3, 12, 12}));
  const ImageProcessor vit = processor(
      fmt::format(R"("feature_extractor_type": "ViTFeatureExtractor", "size": 16, {})", kNumbers));
  EXPECT_EQ(vit.process(picture).sizes(), at::IntArrayRef({3, 16, 16}));
}

TEST(ImageProcessor, DoesOnlyWhatItIsToldTo) {
  const Tensor picture = at::randint(0, 256, {5, 7, 3}).to(at::kByte);
  const ImageProcessor none = processor(
      R"("do_resize": false, "do_center_crop": false, "do_rescale": false, "do_normalize": false)");
  EXPECT_TRUE(at::equal(none.process(picture), picture.permute({2, 0, 1}).to(at::kFloat)));
}

TEST(ImageProcessor, RefusesWhatItDoesNotKnow) {
  const auto refuse = [](const std::string& fields,
                         std::initializer_list<std::string_view> pieces) {
    expect_error<FileError>([&] { processor(fields); }, pieces);
  };
  refuse(R"("resample": 0)", {"resample", "0", "3 (bicubic)"});
  refuse(R"("size": {"shortest_edge": 0})", {"shortest_edge", "0"});
  refuse(R"("size": 99999)", {"size", "99999"});
  refuse(R"("crop_size": {"height": 4})", {"crop_size", "width"});
  refuse(R"("image_mean": [0.5], "image_std": [0.5, 0.5, 0.5])", {"1 and 3"});
  refuse(R"("size": 16)", {"image_mean"});
}

TEST(ImageProcessor, RefusesAPictureThatIsSmallerThanTheCut) {
  const ImageProcessor one = processor(fmt::format(R"("size": 8, "crop_size": 12, {})", kNumbers));
  expect_error<Error>([&] { one.process(at::zeros({8, 20, 3}, at::kByte)); }, {"12 x 12"});
  expect_error<Error>([&] { one.process(at::zeros({8, 20}, at::kByte)); }, {"pixels"});
}

}  // namespace
}  // namespace molar
