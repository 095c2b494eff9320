#include "molar/pipeline/expert_regions.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "molar/core/error.h"
#include "molar/io/image.h"
#include "support/expect_close.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;

const std::vector<std::string> kExperts = {"face", "hand"};
constexpr MapSize kPicture{48, 64};  // pixels

ExpertRegion box(const std::string& expert, PixelBox where) { return {expert, where}; }

std::filesystem::path write_mask(const test::TempFolder& folder, const Tensor& grey) {
  const Tensor pixels = grey.unsqueeze(-1).expand({-1, -1, 3}).contiguous();
  return folder.file("mask.png", encode_png(pixels, {}));
}

TEST(ExpertRegions, BoxesBecomeTheCoveredPartOfEachPosition) {
  // x 16 to 32 and y 8 to 20 of 64 x 48, on positions of 8 x 8 pixels.
  const ExpertRegions regions({box("hand", {16, 8, 16, 12})}, kExperts, kPicture);
  EXPECT_FALSE(regions.empty());
  EXPECT_FALSE(regions.waits());
  const Tensor tokens = regions.tokens({6, 8});
  ASSERT_EQ(tokens.sizes(), at::IntArrayRef({48, 2}));
  EXPECT_TRUE(at::equal(tokens.select(1, 0), at::ones({48}))) << "face acts everywhere";
  Tensor wanted = at::zeros({6, 8});
  wanted[1].slice(0, 2, 4).fill_(1.0);
  wanted[2].slice(0, 2, 4).fill_(0.5);
  EXPECT_TRUE(is_close(tokens.select(1, 1).view({6, 8}), wanted));
  // A coarse level keeps a small box as a small part, it does not lose it.
  EXPECT_NEAR(regions.tokens({1, 1})[0][1].item<double>(), 16.0 * 12 / (64 * 48), 1e-6);
  EXPECT_EQ(regions.tokens({5, 7}).sizes(), at::IntArrayRef({35, 2}));
}

TEST(ExpertRegions, SeveralOfOneExpertAreJoined) {
  const test::TempFolder folder;
  const Tensor grey = at::zeros({48, 64}, at::kByte);
  grey.narrow(0, 40, 8).fill_(255);
  const ExpertRegions regions(
      {box("face", {0, 0, 64, 8}), box("face", {0, 0, 8, 16}), {"face", write_mask(folder, grey)}},
      kExperts, kPicture);
  const Tensor face = regions.tokens({6, 8}).select(1, 0).view({6, 8});
  Tensor wanted = at::zeros({6, 8});
  wanted[0].fill_(1.0);
  wanted[1][0] = 1.0;
  wanted[5].fill_(1.0);
  EXPECT_TRUE(is_close(face, wanted));
}

TEST(ExpertRegions, NoneAtAllIsEmpty) {
  EXPECT_TRUE(ExpertRegions({}, kExperts, kPicture).empty());
}

TEST(ExpertRegions, RefusesWhatCannotBe) {
  const auto make = [](std::vector<ExpertRegion> regions) {
    return [regions] { ExpertRegions(regions, kExperts, kPicture); };
  };
  expect_error<ConfigError>(make({box("foot", {0, 0, 8, 8})}), {"--region foot", "face, hand"});
  expect_error<ConfigError>(make({box("face", {60, 0, 8, 8})}),
                            {"--region face=60,0,8,8", "64 x 48"});
  expect_error<ConfigError>(make({box("face", {0, 41, 8, 8})}), {"inside the picture"});
  for (const bool first : {true, false}) {
    std::vector<ExpertRegion> both = {{"face", FoundByGates{}}, box("face", {0, 0, 8, 8})};
    if (!first) std::swap(both[0], both[1]);
    expect_error<ConfigError>(make(both), {"--region face=auto", "no other"});
  }
  const test::TempFolder folder;
  const auto mask = write_mask(folder, at::zeros({64, 48}, at::kByte));
  expect_error<InputError>(make({{"face", mask}}), {"48 x 64", "wanted the picture's 64 x 48"});
  expect_error<InputError>(make({{"face", folder / "missing.png"}}), {"missing.png"});
}

// A bright disc in noise: its positions and a rim are found, the far corners are not.
GateStep step_with_a_disc() {
  torch::manual_seed(1);
  GateStep step;
  step.global = {0.5, 0.5};
  for (const MapSize size : {MapSize{16, 24}, MapSize{8, 12}}) {
    const Tensor y = at::linspace(0, 1, size.height).unsqueeze(1);
    const Tensor x = at::linspace(0, 1, size.width).unsqueeze(0);
    const Tensor disc = ((x - 0.7).square() + (y - 0.3).square() < 0.04).to(at::kFloat);
    const Tensor local = 0.3 + 0.4 * disc + 0.02 * at::randn({size.height, size.width});
    step.levels.push_back(at::stack({local, at::full_like(local, 0.4)}));
  }
  return step;
}

TEST(ExpertRegions, AreFoundInTheGates) {
  ExpertRegions regions({{"face", FoundByGates{}}}, kExperts, {128, 192});
  EXPECT_TRUE(regions.waits());
  EXPECT_TRUE(at::equal(regions.tokens({16, 24}), at::ones({16 * 24, 2}))) << "not found yet";
  EXPECT_TRUE(regions.find_in(step_with_a_disc()).empty());
  EXPECT_FALSE(regions.waits());
  const Tensor found = regions.tokens({16, 24}).select(1, 0).view({16, 24});
  EXPECT_EQ(found[5][16].item<double>(), 1.0);
  EXPECT_EQ(found[14][2].item<double>(), 0.0);
  EXPECT_EQ(found[1][1].item<double>(), 0.0);
  EXPECT_NEAR(found.mean().item<double>(), 0.18, 0.08) << "pi 0.2^2 = 0.13, and a rim";
  regions.forget_found();
  EXPECT_TRUE(regions.waits());
  EXPECT_TRUE(at::equal(regions.tokens({16, 24}), at::ones({16 * 24, 2})));
}

TEST(ExpertRegions, GatesThatAreAlikeEverywhereAreToldAndActEverywhere) {
  ExpertRegions regions({{"hand", FoundByGates{}}}, kExperts, {128, 192});
  EXPECT_EQ(regions.find_in(step_with_a_disc()), (std::vector<std::string>{"hand"}));
  EXPECT_FALSE(regions.waits());
  EXPECT_TRUE(at::equal(regions.tokens({4, 6}), at::ones({24, 2})));
}

TEST(OtsuThreshold, SplitsTwoClasses) {
  torch::manual_seed(2);
  const Tensor low = 0.2 + 0.03 * at::randn({300}), high = 0.7 + 0.03 * at::randn({100});
  const double threshold = otsu_threshold(at::cat({low, high}));
  EXPECT_GT(threshold, low.max().item<double>() - 1e-6);
  EXPECT_LT(threshold, high.min().item<double>());
}

}  // namespace
}  // namespace molar
