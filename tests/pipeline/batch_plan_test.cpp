#include "molar/pipeline/batch_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "molar/core/random.h"
#include "molar/core/tensor.h"

namespace molar {
namespace {

using Groups = std::vector<std::vector<size_t>>;

GenerationRequest picture(const std::string& prompt, const std::string& style = "",
                          int64_t width_px = 64) {
  GenerationRequest request;
  request.prompt = prompt;
  request.width_px = width_px;
  request.height_px = 64;
  if (!style.empty()) request.adapters.style = LoraUse{style};
  return request;
}

TEST(PlanBatch, LorasThenSizesThenTextsStandTogether) {
  const std::vector<GenerationRequest> pictures = {
      picture("a", "x"), picture("b"), picture("b", "x"),    picture("a", "x", 32),
      picture("a", "x"), picture("b"), picture("c", "x", 32)};
  EXPECT_EQ(plan_batch(pictures, BatchOrder::kShared), (Groups{{0, 4, 2}, {3, 6}, {1, 5}}));
  EXPECT_EQ(plan_batch(pictures, BatchOrder::kList), (Groups{{0}, {1}, {2}, {3}, {4}, {5}, {6}}));
}

TEST(PlanBatch, OfTheSameLorasThoseOfTheSameExpertsStandTogether) {
  std::vector<GenerationRequest> pictures = {picture("a", "x"), picture("a", "x"),
                                             picture("a", "y"), picture("a", "x", 32),
                                             picture("a", "x")};
  for (const size_t i : {1, 2, 3}) pictures[i].mole.folder = "mole";
  EXPECT_EQ(plan_batch(pictures, BatchOrder::kShared), (Groups{{0, 4}, {1}, {3}, {2}}));
}

TEST(PlanBatch, OnlyWhatRunsInStepGoesSideBySide) {
  GenerationRequest base = picture("a");
  std::vector<GenerationRequest> others(9, base);
  others[0].num_steps = 7;
  others[1].sampler = "euler";
  others[2].guidance_scale = 1.0;
  others[3].adapters.loras = {LoraUse{"z", 0.5}};
  others[4].init_image = "i.png";
  others[5].eta = 0.5;
  others[6].height_px = 32;
  others[7].mole.folder = "mole";
  others[8].mole.regions = {{"face", FoundByGates{}}};
  for (const GenerationRequest& changed : others)
    EXPECT_EQ(plan_batch({base, changed}, BatchOrder::kShared).size(), 2U);
  GenerationRequest other = picture("b");  // what does not change the calls' shape
  other.seed = 9;
  other.guidance_scale = 3;
  EXPECT_EQ(plan_batch({base, other}, BatchOrder::kList), (Groups{{0, 1}}));
}

TEST(PlanBatch, PicturesOfAPictureGoAlone) {
  GenerationRequest request = picture("a");
  request.init_image = "i.png";
  EXPECT_EQ(plan_batch({request, request}, BatchOrder::kShared), (Groups{{0}, {1}}));
}

TEST(PlanBatch, EveryPictureIsThereOnceAndNoLorasComeBack) {
  const Tensor draws = RandomSource(1).randint(4, {200, 3});
  std::vector<GenerationRequest> pictures;
  for (int64_t i = 0; i < draws.size(0); ++i)
    pictures.push_back(picture(std::to_string(draws[i][0].item<int64_t>()),
                               std::to_string(draws[i][1].item<int64_t>()),
                               64 + 8 * draws[i][2].item<int64_t>()));
  std::set<size_t> seen;
  std::vector<std::string> styles;
  for (const auto& group : plan_batch(pictures, BatchOrder::kShared))
    for (const size_t i : group) {
      EXPECT_TRUE(seen.insert(i).second);
      const std::string style = pictures[i].adapters.style->file.string();
      if (styles.empty() || styles.back() != style) styles.push_back(style);
    }
  EXPECT_EQ(seen.size(), pictures.size());
  EXPECT_EQ(styles.size(), 4U);
  EXPECT_EQ(std::set<std::string>(styles.begin(), styles.end()).size(), 4U);
  EXPECT_EQ(plan_batch({}, BatchOrder::kShared), Groups{});
}

}  // namespace
}  // namespace molar
