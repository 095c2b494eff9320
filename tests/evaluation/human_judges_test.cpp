#include "molar/evaluation/human_judges.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>

#include "judge_networks.h"
#include "molar/core/error.h"
#include "molar/io/json_config.h"
#include "molar/io/safetensors.h"
#include "molar/models/model_loader.h"
#include "support/expect_close.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempFolder;

const fs::path kGoldens = fs::path(MOLAR_TEST_DATA_DIR) / "judges";
const fs::path kBundled = fs::path(MOLAR_SOURCE_DIR) / "models/toyland/judges";
// float32 on both sides, sums in another order.
constexpr Tolerance kSameMathOtherOrder{.atol = 1e-5, .rtol = 1e-4};

struct Goldens {
  Json manifest = read_json_file(kGoldens / "MANIFEST.json");
  SafetensorsFile file = SafetensorsFile::open(kGoldens / "goldens.safetensors");

  std::vector<Tensor> pictures() const { return file.tensor("pictures").unbind(); }
  /// [B, 3, 64, 64] in [-1, 1].
  Tensor pixels() const {
    return file.tensor("pictures").permute({0, 3, 1, 2}).to(at::kFloat) / 127.5 - 1;
  }
};

template <typename Network>
Network load(Network network, const std::string& name) {
  const fs::path path = kGoldens / (name + ".safetensors");
  load_weights(*network,
               {.name = name,
                .source = path.string(),
                .config = {},
                .weights = SafetensorsFile::open(path).state_dict()},
               {.device = at::kCPU, .dtype = at::kFloat});
  return network;
}

TEST(JudgeDetector, ComputesWhatPyTorchComputes) {
  const Goldens goldens;
  const at::NoGradGuard no_grad;
  auto detector = load(JudgeDetector(std::vector<int64_t>{4, 6, 8}, 8), "detector");
  EXPECT_TRUE(
      is_close(detector(goldens.pixels()), goldens.file.tensor("maps"), kSameMathOtherOrder));
}

TEST(JudgeClassifier, ComputesWhatPyTorchComputes) {
  const Goldens goldens;
  const at::NoGradGuard no_grad;
  const Tensor crops = goldens.file.tensor("crops");
  auto hand = load(JudgeClassifier(std::vector<int64_t>{4, 6, 8, 8}, 10), "hand");
  auto face = load(JudgeClassifier(std::vector<int64_t>{4, 6, 8, 8}, 5), "face");
  EXPECT_TRUE(is_close(hand(crops), goldens.file.tensor("hand"), kSameMathOtherOrder));
  EXPECT_TRUE(is_close(face(crops), goldens.file.tensor("face"), kSameMathOtherOrder));
}

TEST(CropAround, CutsWhatPyTorchCuts) {
  const Goldens goldens;
  const Tensor points = goldens.file.tensor("points");
  EXPECT_TRUE(is_close(
      crop_around(goldens.pixels(), points.select(1, 0), points.select(1, 1), points.select(1, 2)),
      goldens.file.tensor("crops"), kSameMathOtherOrder));
}

TEST(HumanJudges, FindWhatTheReferenceFinds) {
  const Goldens goldens;
  const HumanJudges judges = HumanJudges::load(kGoldens, at::kCPU);
  EXPECT_EQ(judges.picture_px(), 64);
  const std::vector<HumanFindings> all = judges.judge(goldens.pictures());
  ASSERT_EQ(all.size(), goldens.manifest.at("found").size());
  const auto expect_part = [](const JudgedPart& part, const Json& wanted) {
    EXPECT_NEAR(part.x_px, wanted.at("x").get<double>(), 1e-3);
    EXPECT_NEAR(part.y_px, wanted.at("y").get<double>(), 1e-3);
    EXPECT_NEAR(part.half_height_px, wanted.at("scale").get<double>(), 1e-3);
    EXPECT_NEAR(part.heat, wanted.at("heat").get<double>(), 1e-5);
  };
  for (size_t i = 0; i < all.size(); ++i) {
    size_t face = 0, hand = 0;
    for (const Json& wanted : goldens.manifest.at("found")[i]) {
      if (wanted.at("found").at("kind") == "face") {
        ASSERT_LT(face, all[i].faces.size());
        const JudgedFace& found = all[i].faces[face++];
        expect_part(found.part, wanted.at("found"));
        const auto parts = wanted.at("parts").get<std::vector<bool>>();
        EXPECT_EQ(std::ssize(found.wrong_parts), std::ranges::count(parts, false));
      } else {
        ASSERT_LT(hand, all[i].hands.size());
        const JudgedHand& found = all[i].hands[hand++];
        expect_part(found.part, wanted.at("found"));
        EXPECT_EQ(found.is_whole() ? found.gesture : "broken", wanted.at("gesture"));
      }
    }
    EXPECT_EQ(face, all[i].faces.size());
    EXPECT_EQ(hand, all[i].hands.size());
  }
}

TEST(HumanJudges, SeeNobodyInAnEmptyPictureAndRefuseOtherSizes) {
  const HumanJudges judges = HumanJudges::load(kBundled, at::kCPU);
  const HumanFindings found = judges.judge({at::full({64, 64, 3}, 200, at::kByte)}).front();
  EXPECT_TRUE(found.faces.empty());
  EXPECT_TRUE(found.hands.empty());
  expect_error<Error>([&] { judges.judge({at::zeros({64, 32, 3}, at::kByte)}); }, {"pixels"});
}

JudgedHand hand(const std::string& gesture, int64_t fingers) {
  return {.part = {}, .gesture = gesture, .num_fingers = fingers};
}

JudgedFace face(const std::vector<std::string>& wrong_parts = {}) {
  return {.part = {}, .wrong_parts = wrong_parts};
}

WantedPicture prompt(PictureKind kind, int64_t people = 1,
                     std::optional<std::vector<int64_t>> fingers = std::nullopt) {
  return {.prompt = "p", .kind = kind, .people = people, .fingers = std::move(fingers), .seed = {}};
}

TEST(ScoreHumans, AHandShowsTheFingersThatThePromptSays) {
  const WantedPicture three = prompt(PictureKind::kHand, 1, {{3}});
  EXPECT_EQ(score_humans({.faces = {}, .hands = {hand("three", 3)}}, three),
            (Scores{{"correct_hands", 1}, {"counted_hands", 1}}));
  EXPECT_EQ(score_humans({.faces = {}, .hands = {hand("four", 4)}}, three),
            (Scores{{"correct_hands", 0}, {"counted_hands", 1}}));
  EXPECT_EQ(score_humans({.faces = {}, .hands = {hand("", 0)}}, three).at("correct_hands"), 0);
  // A second hand is one too many, whatever it shows.
  EXPECT_EQ(score_humans({.faces = {}, .hands = {hand("three", 3), hand("three", 3)}}, three),
            (Scores{{"correct_hands", 0.5}, {"counted_hands", 0}}));
  EXPECT_EQ(score_humans({}, three), (Scores{{"correct_hands", 0}, {"counted_hands", 0}}));
  EXPECT_EQ(score_humans({.faces = {}, .hands = {hand("open", 5)}}, prompt(PictureKind::kHand))
                .at("correct_hands"),
            1);
}

TEST(ScoreHumans, AFaceHasAllParts) {
  const WantedPicture close_up = prompt(PictureKind::kFace);
  EXPECT_EQ(score_humans({.faces = {face()}, .hands = {hand("", 0)}}, close_up),
            (Scores{{"correct_faces", 1}, {"counted_faces", 1}}));
  EXPECT_EQ(score_humans({.faces = {face({"mouth"})}, .hands = {}}, close_up).at("correct_faces"),
            0);
}

TEST(ScoreHumans, ASceneHasAFaceAndTwoHandsForEachPerson) {
  const HumanFindings found{.faces = {face(), face({"left_eye"})},
                            .hands = {hand("open", 5), hand("fist", 0), hand("", 0)}};
  const Scores scores = score_humans(found, prompt(PictureKind::kScene, 2));
  EXPECT_EQ(scores, (Scores{{"correct_hands", 0.5},
                            {"correct_faces", 0.5},
                            {"counted_hands", 0},
                            {"counted_faces", 1}}));
  // One hand must show five fingers; of the other three any are right.
  EXPECT_EQ(score_humans(found, prompt(PictureKind::kScene, 2, {{5}})).at("correct_hands"), 0.5);
  EXPECT_EQ(score_humans(found, prompt(PictureKind::kScene, 2, {{3, 3, 5}})).at("correct_hands"),
            0.5);
  EXPECT_EQ(score_humans(found, prompt(PictureKind::kScene, 2, {{3, 3, 3, 5}})).at("correct_hands"),
            0.25);
}

/// A copy of the goldens' judges with one file changed.
void expect_refused(const std::string& name,
                    const std::function<void(StateDict&, SafetensorsMetadata&)>& change,
                    std::initializer_list<std::string_view> says) {
  const TempFolder folder;
  for (const char* file : {"detector", "hand", "face"})
    fs::copy(kGoldens / (file + std::string(".safetensors")), folder.path());
  {
    const SafetensorsFile file = SafetensorsFile::open(kGoldens / (name + ".safetensors"));
    StateDict weights = file.state_dict();
    SafetensorsMetadata metadata = file.metadata();
    change(weights, metadata);
    write_safetensors(folder / (name + ".safetensors"), OnExist::kOverwrite, weights, metadata);
  }
  const std::string message =
      expect_error<FileError>([&] { HumanJudges::load(folder.path(), at::kCPU); }, says);
  EXPECT_NE(message.find(name + ".safetensors"), std::string::npos) << message;
}

TEST(HumanJudges, RefuseFilesThatDoNotFit) {
  expect_error<FileError>([] { HumanJudges::load("nowhere", at::kCPU); },
                          {"nowhere/detector.safetensors", "missing", "hand.safetensors"});
  using Weights = StateDict;
  using Metadata = SafetensorsMetadata;
  expect_refused("hand", [](Weights&, Metadata& m) { m.erase("molar.kind"); },
                 {"molar.kind", "human-judge"});
  expect_refused("face", [](Weights&, Metadata& m) { m["molar.judge"] = "hand"; },
                 {"'hand'", "wanted 'face'"});
  expect_refused("face", [](Weights&, Metadata& m) { m["molar.version"] = "2"; },
                 {"'2'", "wanted '1'"});
  expect_refused("detector", [](Weights&, Metadata& m) { m["picture_px"] = "63"; },
                 {"picture_px", "multiple of 8"});
  expect_refused("hand", [](Weights&, Metadata& m) { m["gestures"] = "[\"fist\"]"; },
                 {"gestures", "pairs"});
  expect_refused("face", [](Weights&, Metadata& m) { m["parts"] = "[]"; }, {"parts", "names"});
  expect_refused("face", [](Weights&, Metadata& m) { m["parts"] = "["; }, {"parts"});
  expect_refused("face", [](Weights&, Metadata& m) { m["parts"] = "[\"mouth\"]"; },
                 {"head.weight"});
  expect_refused("hand", [](Weights& w, Metadata&) { w.erase("encoder.stages.1.conv1.bias"); },
                 {"encoder.stages.1.conv1.bias"});
  expect_refused("detector", [](Weights& w, Metadata&) { w.erase("merge.weight"); },
                 {"merge.weight"});
  expect_refused("detector",
                 [](Weights& w, Metadata&) { w.erase("encoder.stages.0.enter.weight"); },
                 {"0 stages", "2 to 4"});
  expect_refused("hand", [](Weights& w, Metadata&) { w["more"] = at::zeros({1}); }, {"more"});
}

}  // namespace
}  // namespace molar
