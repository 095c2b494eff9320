#include "molar/evaluation/score_table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;

LabelledPicture picture(const std::string& method, const std::string& subject,
                        const std::string& style) {
  return {.path = "x.png",
          .method = method,
          .subject = subject,
          .style = style,
          .prompt = {},
          .seed = {}};
}

/// Two methods, three pairs; the first pair has two pictures.
struct Example {
  std::vector<LabelledPicture> pictures{picture("a", "s", "1"), picture("a", "s", "1"),
                                        picture("a", "s", "2"), picture("a", "t", "1"),
                                        picture("b", "s", "1"), picture("b", "s", "2"),
                                        picture("b", "t", "1")};
  std::vector<Scores> scores{{{"clip_t", 0.1}}, {{"clip_t", 0.3}}, {{"clip_t", 0.5}},
                             {{"clip_t", 0.8}}, {{"clip_t", 0.3}}, {{"clip_t", 0.5}},
                             {{"clip_t", 1.0}}};
};

TEST(ScoreTable, CountsPairsNotPictures) {
  const Example example;
  const ScoreTable table = tabulate(in_pairs(example.pictures, example.scores));
  ASSERT_EQ(table.rows.size(), 2U);
  const TableRow& a = table.rows[0];
  EXPECT_EQ(a.method, "a");
  EXPECT_EQ(a.num_pictures, 4);
  EXPECT_EQ(a.num_units, 3);
  const Estimate& estimate = a.estimates.at("clip_t");
  EXPECT_NEAR(estimate.mean, 0.5, 1e-12);  // of 0.2, 0.5, 0.8
  ASSERT_TRUE(estimate.error);
  EXPECT_NEAR(*estimate.error, 4.303 * 0.3 / std::sqrt(3.0), 1e-9);
  EXPECT_TRUE(table.differences.empty());
}

TEST(ScoreTable, ComparesMethodsPairByPair) {
  const Example example;
  const ScoreTable table = tabulate(in_pairs(example.pictures, example.scores), {.baseline = "a"});
  ASSERT_EQ(table.differences.size(), 1U);
  const Estimate& gain = table.differences[0].estimates.at("clip_t");
  EXPECT_NEAR(gain.mean, 0.1, 1e-12);  // of 0.1, 0, 0.2
  EXPECT_NEAR(gain.error.value(), 4.303 * 0.1 / std::sqrt(3.0), 1e-9);
  expect_error<ConfigError>(
      [&] { tabulate(in_pairs(example.pictures, example.scores), {.baseline = "c"}); },
      {"--baseline c", "a, b"});
}

TEST(ScoreTable, ComparesOnlyPairsThatBothHave) {
  Example example;
  example.pictures[6].subject = "u";
  const ScoreTable table = tabulate(in_pairs(example.pictures, example.scores), {.baseline = "a"});
  EXPECT_NEAR(table.differences[0].estimates.at("clip_t").mean, 0.05, 1e-12);
}

TEST(ScoreTable, HasNoIntervalForOnePair) {
  const ScoreTable table = tabulate(in_pairs({picture("a", "s", "1"), picture("a", "s", "1")},
                                             {{{"clip_t", 0.1}}, {{"clip_t", 0.3}}}));
  EXPECT_FALSE(table.rows[0].estimates.at("clip_t").error);
  EXPECT_NE(markdown({table}).find("| 0.200 |"), std::string::npos) << markdown({table});
}

TEST(ScoreTable, IntervalsOfManyPairsAreStudents) {
  // Half of the values are 0, half 1; t(0.975, 39) = 2.0227.
  std::vector<LabelledPicture> pictures;
  std::vector<Scores> scores;
  for (int i = 0; i < 40; ++i) {
    pictures.push_back(picture("a", std::to_string(i), "1"));
    scores.push_back({{"clip_t", i % 2}});
  }
  const ScoreTable table = tabulate(in_pairs(pictures, scores));
  const double deviation = std::sqrt(10.0 / 39);
  EXPECT_NEAR(*table.rows[0].estimates.at("clip_t").error, 2.0227 * deviation / std::sqrt(40.0),
              1e-4);
}

/// Two repeats of three prompts, drawn by two methods; the second lacks one picture.
std::vector<ScoredPicture> repeats() {
  const double a[] = {0.2, 0.4, 0.6, 0.3, 0.5, 1.0}, b[] = {0.3, 0.4, 0.8, 0.3, 0.6};
  std::vector<ScoredPicture> pictures;
  const auto add = [&](const char* method, size_t i, double value) {
    pictures.push_back({.method = method,
                        .unit = std::to_string(i / 3),
                        .twin = std::to_string(i),
                        .scores = {{"correct_hands", value}}});
  };
  for (size_t i = 0; i < 6; ++i) add("a", i, a[i]);
  for (size_t i = 0; i < 5; ++i) add("b", i, b[i]);
  return pictures;
}

TEST(ScoreTable, OfRepeatsHasStandardErrors) {
  const ScoreTable table = tabulate(repeats(), {.title = "All", .unit = Unit::kRepeat});
  const Estimate& a = table.rows[0].estimates.at("correct_hands");
  EXPECT_EQ(table.rows[0].num_units, 2);
  EXPECT_NEAR(a.mean, 0.5, 1e-12);  // of 0.4 and 0.6
  EXPECT_NEAR(a.error.value(), 0.1, 1e-12);
  // Deviations of six values from 0.5: 0.3, 0.1, 0.1, 0.2, 0, 0.5.
  EXPECT_NEAR(a.picture_error.value(), std::sqrt(0.40 / 5 / 6), 1e-12);
  const std::string text = markdown({table});
  EXPECT_NE(text.find("**All: Means over repeats"), std::string::npos) << text;
  EXPECT_NE(text.find("| method | pictures | repeats | correct hands ↑ |"), std::string::npos)
      << text;
  EXPECT_NE(text.find("| a | 6 | 2 | 0.500 ± 0.100 (0.115) |"), std::string::npos) << text;
}

TEST(ScoreTable, OfRepeatsComparesTwins) {
  const ScoreTable table = tabulate(repeats(), {.baseline = "a", .unit = Unit::kRepeat});
  const Estimate& gain = table.differences[0].estimates.at("correct_hands");
  // 0.1, 0, 0.2 in one repeat, 0, 0.1 in the other; the picture without a twin does not count.
  EXPECT_NEAR(gain.mean, 0.075, 1e-12);
  EXPECT_NEAR(gain.error.value(), 0.025, 1e-12);
  EXPECT_NEAR(gain.picture_error.value(), std::sqrt(0.028 / 4 / 5), 1e-12);
  EXPECT_NE(markdown({table}).find("| b | 5 | 2 | +0.075 ± 0.025 (0.037) |"), std::string::npos)
      << markdown({table});
}

TEST(AddSummaries, AreMeansAndTheHarmonicMean) {
  Scores scores{{"clip_i_subject", 0.4},
                {"dino_subject", 0.8},
                {"clip_i_style", 0.3},
                {"truth_clip_i", 0.5},
                {"truth_dino", 0.9}};
  add_summaries(scores);
  EXPECT_NEAR(scores.at("subject"), 0.6, 1e-12);
  EXPECT_NEAR(scores.at("style"), 0.3, 1e-12);
  EXPECT_NEAR(scores.at("harmonic"), 0.4, 1e-12);
  EXPECT_NEAR(scores.at("truth_distance"), 0.3, 1e-12);
  Scores negative{{"dino_subject", -0.1}, {"dino_style", 0.5}};
  add_summaries(negative);
  EXPECT_EQ(negative.at("harmonic"), 0.0);
  Scores half{{"dino_subject", 0.5}};
  add_summaries(half);
  EXPECT_FALSE(half.contains("harmonic"));
}

TEST(ScoreTable, WritesMarkdownAndHtml) {
  const ScoreTable table = tabulate(in_pairs({picture("a|<b>", "s", "1"), picture("", "s", "1")},
                                             {{{"truth_distance", 0.25}}, {{"clip_t", 0.5}}}));
  const std::string text = markdown({table});
  EXPECT_NE(text.find("| method | pictures | pairs | CLIP-T ↑ | distance to truth ↓ |"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("| a&#124;<b> | 1 | 1 | – | 0.250 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| none | 1 | 1 | 0.500 | – |"), std::string::npos) << text;
  const std::string page = html({table});
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_NE(page.find("<td>a|&#60;b&#62;</td>"), std::string::npos) << page;
  EXPECT_EQ(page.find("http"), std::string::npos);
}

}  // namespace
}  // namespace molar
