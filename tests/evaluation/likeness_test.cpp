#include "molar/evaluation/likeness.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "molar/io/image.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempFolder;

const fs::path kModels = fs::path(MOLAR_TEST_DATA_DIR) / "metrics";

/// One judged picture; its subject has two references, its style one, and there is its truth.
class Likeness : public testing::Test {
 protected:
  Tensor write(const std::string& name, uint64_t seed) {
    at::manual_seed(seed);
    const Tensor pixels = at::randint(0, 256, {12, 20, 3}).to(at::kByte);
    fs::create_directories((folder_ / name).parent_path());
    folder_.file(name, encode_png(pixels, {}));
    return pixels;
  }
  std::vector<Scores> measure(const std::vector<LabelledPicture>& pictures,
                              const ReferenceFolders& references) {
    NoProgress progress;
    return measure_likeness(pictures, {&pair_, &encoder_}, references, progress, cancellation_);
  }

  TempFolder folder_;
  CancellationToken cancellation_;
  ImageTextPair pair_ = ImageTextPair::load(kModels / "clip", at::kCPU);
  SelfSupervisedEncoder encoder_ = SelfSupervisedEncoder::load(kModels / "vit", at::kCPU);
  Tensor picture_ = write("run/7.png", 1), subject_a_ = write("subjects/cat/a.png", 2),
         subject_b_ = write("subjects/cat/b.png", 3), style_ = write("styles/ink/a.png", 4),
         truth_ = write("truth/cat/ink/7.png", 5);
  LabelledPicture labelled_{.path = folder_ / "run/7.png",
                            .method = "np",
                            .subject = "cat",
                            .style = "ink",
                            .prompt = "a cat in ink"};
  ReferenceFolders references_{
      .subjects = folder_ / "subjects", .styles = folder_ / "styles", .truth = folder_ / "truth"};
};

TEST_F(Likeness, IsTheCosineOfEmbeddings) {
  const Scores scores = measure({labelled_}, references_).at(0);
  const Tensor clip = pair_.embed_pictures({picture_, subject_a_, subject_b_, style_, truth_});
  const Tensor dino = encoder_.embed_pictures({picture_, subject_a_, subject_b_, style_, truth_});
  const auto cosine = [](const Tensor& embeddings, int64_t other) {
    return embeddings[0].dot(embeddings[other]).item<double>();
  };
  EXPECT_NEAR(scores.at("clip_i_subject"), (cosine(clip, 1) + cosine(clip, 2)) / 2, 1e-5);
  EXPECT_NEAR(scores.at("dino_subject"), (cosine(dino, 1) + cosine(dino, 2)) / 2, 1e-5);
  EXPECT_NEAR(scores.at("clip_i_style"), cosine(clip, 3), 1e-5);
  EXPECT_NEAR(scores.at("dino_style"), cosine(dino, 3), 1e-5);
  EXPECT_NEAR(scores.at("truth_clip_i"), cosine(clip, 4), 1e-5);
  EXPECT_NEAR(scores.at("truth_dino"), cosine(dino, 4), 1e-5);
  EXPECT_NEAR(scores.at("clip_t"),
              clip[0].dot(pair_.embed_texts({"a cat in ink"})[0]).item<double>(), 1e-5);
  EXPECT_EQ(scores.size(), 7U);
}

TEST_F(Likeness, LeavesOutWhatThereIsNothingFor) {
  labelled_.style.clear();
  labelled_.prompt.reset();
  references_.truth.reset();
  const Scores scores = measure({labelled_}, references_).at(0);
  EXPECT_EQ(scores.size(), 2U);
  EXPECT_TRUE(scores.contains("clip_i_subject") && scores.contains("dino_subject"));
}

TEST_F(Likeness, RefusesMissingReferencesAndTruths) {
  labelled_.subject = "dog";
  expect_error<InputError>([&] { measure({labelled_}, references_); }, {"subjects/dog", "'dog'"});
  references_.subjects.reset();
  expect_error<InputError>([&] { measure({labelled_}, references_); },
                           {"truth/dog/ink/7.png", "run/7.png"});
}

TEST_F(Likeness, StopsBetweenBatches) {
  cancellation_.request();
  EXPECT_THROW(measure({labelled_}, references_), StoppedError);
}

}  // namespace
}  // namespace molar
