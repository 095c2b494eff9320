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
  return {.path = "x.png", .method = method, .subject = subject, .style = style, .prompt = {}};
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
  const ScoreTable table = tabulate(example.pictures, example.scores, std::nullopt);
  ASSERT_EQ(table.rows.size(), 2U);
  const TableRow& a = table.rows[0];
  EXPECT_EQ(a.method, "a");
  EXPECT_EQ(a.num_pictures, 4);
  EXPECT_EQ(a.num_pairs, 3);
  const Estimate& estimate = a.estimates.at("clip_t");
  EXPECT_NEAR(estimate.mean, 0.5, 1e-12);  // of 0.2, 0.5, 0.8
  ASSERT_TRUE(estimate.half_width);
  EXPECT_NEAR(*estimate.half_width, 4.303 * 0.3 / std::sqrt(3.0), 1e-9);
  EXPECT_TRUE(table.differences.empty());
}

TEST(ScoreTable, ComparesMethodsPairByPair) {
  const Example example;
  const ScoreTable table = tabulate(example.pictures, example.scores, "a");
  ASSERT_EQ(table.differences.size(), 1U);
  const Estimate& gain = table.differences[0].estimates.at("clip_t");
  EXPECT_NEAR(gain.mean, 0.1, 1e-12);  // of 0.1, 0, 0.2
  EXPECT_NEAR(gain.half_width.value(), 4.303 * 0.1 / std::sqrt(3.0), 1e-9);
  expect_error<ConfigError>([&] { tabulate(example.pictures, example.scores, "c"); },
                            {"--baseline c", "a, b"});
}

TEST(ScoreTable, ComparesOnlyPairsThatBothHave) {
  Example example;
  example.pictures[6].subject = "u";
  const ScoreTable table = tabulate(example.pictures, example.scores, "a");
  EXPECT_NEAR(table.differences[0].estimates.at("clip_t").mean, 0.05, 1e-12);
}

TEST(ScoreTable, HasNoIntervalForOnePair) {
  const ScoreTable table = tabulate({picture("a", "s", "1"), picture("a", "s", "1")},
                                    {{{"clip_t", 0.1}}, {{"clip_t", 0.3}}}, std::nullopt);
  EXPECT_FALSE(table.rows[0].estimates.at("clip_t").half_width);
  EXPECT_NE(markdown(table).find("| 0.200 |"), std::string::npos) << markdown(table);
}

TEST(ScoreTable, IntervalsOfManyPairsAreStudents) {
  // Half of the values are 0, half 1; t(0.975, 39) = 2.0227.
  std::vector<LabelledPicture> pictures;
  std::vector<Scores> scores;
  for (int i = 0; i < 40; ++i) {
    pictures.push_back(picture("a", std::to_string(i), "1"));
    scores.push_back({{"clip_t", i % 2}});
  }
  const ScoreTable table = tabulate(pictures, scores, std::nullopt);
  const double deviation = std::sqrt(10.0 / 39);
  EXPECT_NEAR(*table.rows[0].estimates.at("clip_t").half_width,
              2.0227 * deviation / std::sqrt(40.0), 1e-4);
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
  const ScoreTable table = tabulate({picture("a|<b>", "s", "1"), picture("", "s", "1")},
                                    {{{"truth_distance", 0.25}}, {{"clip_t", 0.5}}}, std::nullopt);
  const std::string text = markdown(table);
  EXPECT_NE(text.find("| method | pictures | pairs | CLIP-T ↑ | distance to truth ↓ |"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("| a&#124;<b> | 1 | 1 | – | 0.250 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| none | 1 | 1 | 0.500 | – |"), std::string::npos) << text;
  const std::string page = html(table);
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_NE(page.find("<td>a|&#60;b&#62;</td>"), std::string::npos) << page;
  EXPECT_EQ(page.find("http"), std::string::npos);
}

}  // namespace
}  // namespace molar
