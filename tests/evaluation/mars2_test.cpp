#include "molar/evaluation/mars2.h"

#include <ATen/ops/full.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "judge_server.h"
#include "molar/core/log.h"
#include "molar/io/image.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using namespace test;

TEST(Mars2, StyleNamesBecomeWords) {
  for (const auto& [name, words] : std::vector<std::pair<std::string, std::string>>{
           {"watercolor_painting", "watercolor painting"},
           {"watercolor_painting2", "watercolor painting"},
           {"flat-cartoon_1", "flat cartoon"},
           {"pop_art12", "pop art1"},  // one digit only
           {"3d_rendering", "3d rendering"},
           {"7", ""},
           {"", ""}})
    EXPECT_EQ(style_words(name), words) << name;
}

TEST(Mars2, AnswersAreReadAsWords) {
  for (const char* yes : {"Yes", "yes", "YES.", "**Yes**", "No... Yes", "Answer:yes\n"})
    EXPECT_EQ(parse_yes_no(yes), true) << yes;
  for (const char* no : {"No", " no.", "NO!", "No, its eyes are green"})
    EXPECT_EQ(parse_yes_no(no), false) << no;
  for (const char* neither : {"", "Maybe", "I cannot know", "eyes", "nothing", "\xFF"})
    EXPECT_EQ(parse_yes_no(neither), std::nullopt) << neither;
}

TEST(Mars2, APictureIsCorrectWhereBothAre) {
  EXPECT_EQ((Mars2Verdict{true, true}.both()), true);
  EXPECT_EQ((Mars2Verdict{true, false}.both()), false);
  EXPECT_EQ((Mars2Verdict{false, true}.both()), false);
  EXPECT_EQ((Mars2Verdict{true, std::nullopt}.both()), std::nullopt);
  EXPECT_EQ((Mars2Verdict{std::nullopt, true}.both()), std::nullopt);
}

TEST(Mars2, JobsHaveLimits) {
  for (const int64_t num_jobs : {0, 65})
    expect_error<ConfigError>([&] { Mars2Options{.num_jobs = num_jobs}.validate(); },
                              {"jobs", "1 to 64", std::to_string(num_jobs)});
  EXPECT_NO_THROW(Mars2Options{.num_jobs = 64}.validate());
}

/// One colour, so that each picture has its own bytes.
Tensor plain(int64_t grey, int64_t height_px = 8, int64_t width_px = 6) {
  return at::full({height_px, width_px, 3}, grey, at::kByte);
}

/// Such a picture as a file.
std::filesystem::path plain_file(int64_t grey, int64_t height_px = 8, int64_t width_px = 6) {
  static const TempFolder folder;
  return folder.file(fmt::format("{}-{}x{}.png", grey, height_px, width_px),
                     encode_png(plain(grey, height_px, width_px), {}));
}

std::vector<std::filesystem::path> plain_pictures(int64_t first_grey, int64_t count) {
  std::vector<std::filesystem::path> pictures;
  for (int64_t i = 0; i < count; ++i) pictures.push_back(plain_file(first_grey + i));
  return pictures;
}

class CountingProgress final : public ProgressSink {
 public:
  void begin(std::string_view, int64_t total) override { total_ = total; }
  void advance() override { ++done; }
  void end() override { EXPECT_EQ(done, total_); }
  int64_t done = 0;

 private:
  int64_t total_ = -1;
};

class Mars2Judging : public testing::Test {
 protected:
  void SetUp() override {
    if (!ChatEndpoint::available()) GTEST_SKIP() << "this build has no judge";
  }

  std::vector<Mars2Verdict> judge(const JudgeScript& script, const std::vector<Mars2Case>& cases,
                                  AnswerCache& cache, int64_t num_jobs = 1) {
    progress_ = CountingProgress();
    const ChatEndpoint endpoint({.url = script.url(),
                                 .model = "judge",
                                 .num_retries = 0,
                                 .timeout_s = 20,
                                 .backoff_s = 0.01});
    return judge_mars2(cases, endpoint, cache, {.num_jobs = num_jobs}, progress_, cancellation_);
  }
  std::vector<Mars2Verdict> judge(const JudgeScript& script, const std::vector<Mars2Case>& cases,
                                  int64_t num_jobs = 1) {
    AnswerCache cache("");
    return judge(script, cases, cache, num_jobs);
  }
  /// With one subject that is given such answers.
  std::optional<bool> subject_verdict(const std::vector<std::string>& texts) {
    const JudgeScript script(answers(texts));
    return judge(script, {{plain_file(0), plain_pictures(1, static_cast<int64_t>(texts.size()))}})
        .at(0)
        .subject;
  }

  TempFolder folder_;
  CountingProgress progress_;
  CancellationToken cancellation_;
};

/// Three pictures with the same references: 3 * (2 + 2) different questions.
std::vector<Mars2Case> twelve_questions() {
  std::vector<Mars2Case> cases;
  const auto subjects = plain_pictures(10, 2), styles = plain_pictures(20, 2);
  for (int64_t i = 0; i < 3; ++i)
    cases.push_back({plain_file(i), subjects, styles, "flat_cartoon2"});
  return cases;
}

std::vector<std::optional<bool>> flat(const std::vector<Mars2Verdict>& verdicts) {
  std::vector<std::optional<bool>> values;
  for (const Mars2Verdict& verdict : verdicts) {
    values.push_back(verdict.subject);
    values.push_back(verdict.style);
  }
  return values;
}

TEST_F(Mars2Judging, MoreThanHalfOfTheReferencesMustAgree) {
  EXPECT_EQ(subject_verdict({"Yes"}), true);
  EXPECT_EQ(subject_verdict({"No"}), false);
  EXPECT_EQ(subject_verdict({"Yes", "No"}), false);  // half is not more than half
  EXPECT_EQ(subject_verdict({"Yes", "No", "Yes"}), true);
  EXPECT_EQ(subject_verdict({"Yes", "No", "Yes", "No"}), false);
  EXPECT_EQ(subject_verdict({"Yes", "Yes", "No", "Yes"}), true);
}

TEST_F(Mars2Judging, SubjectAndStyleAreIndependent) {
  const JudgeScript script(answers({"Yes", "Yes", "No", "No", "No", "Yes", "Yes"}));
  const std::vector<Mars2Verdict> verdicts =
      judge(script, {{plain_file(0), plain_pictures(1, 2), plain_pictures(10, 1), "ink"},
                     {plain_file(1), plain_pictures(1, 1), {}, ""},
                     {plain_file(2), {}, plain_pictures(10, 3), "ink"},
                     {plain_file(3), {}, {}, ""}});
  EXPECT_EQ(flat(verdicts),
            (std::vector<std::optional<bool>>{true, false, false, std::nullopt, std::nullopt, true,
                                              std::nullopt, std::nullopt}));
  EXPECT_EQ(progress_.done, 7);
  EXPECT_EQ(script.num_requests(), 7U);
}

TEST_F(Mars2Judging, NothingToJudgeAsksNothing) {
  const JudgeScript script(answers({"Yes"}));
  EXPECT_TRUE(judge(script, {}).empty());
  EXPECT_EQ(script.num_requests(), 0U);
}

/// The two pictures and the text of one question.
struct Asked {
  std::string reference, picture, text;
};
Asked asked(const Json& request) {
  const Json content =
      Json::parse(request["body"].get<std::string>()).at("messages").at(0).at("content");
  EXPECT_EQ(content.size(), 3U);
  const auto url = [&](size_t i) { return content.at(i).at("image_url").at("url").dump(); };
  return {url(0), url(1), content.at(2).at("text")};
}
std::string data_url(const Tensor& pixels) {
  const ChatEndpoint endpoint({.url = "http://host", .model = "m"});
  return Json::parse(endpoint.request_body(
      {ChatPicture{encode_png(pixels, {})}}))["messages"][0]["content"][0]["image_url"]["url"]
      .dump();
}

TEST_F(Mars2Judging, AQuestionShowsTheReferenceFirst) {
  const JudgeScript script(answers({"Yes"}));
  judge(script, {{plain_file(0), {plain_file(1)}, {plain_file(2)}, "water_colour3"}});
  const std::vector<Json> requests = script.requests();
  ASSERT_EQ(requests.size(), 2U);
  const Asked subject = asked(requests[0]), style = asked(requests[1]);
  EXPECT_EQ(subject.reference, data_url(plain(1)));
  EXPECT_EQ(style.reference, data_url(plain(2)));
  EXPECT_EQ(subject.picture, data_url(plain(0)));
  EXPECT_EQ(style.picture, data_url(plain(0)));
  EXPECT_NE(subject.text.find("colours"), std::string::npos);
  EXPECT_NE(style.text.find("the style \"water colour\""), std::string::npos) << style.text;
}

TEST_F(Mars2Judging, LargePicturesAreReduced) {
  const JudgeScript script(answers({"Yes"}));
  judge(script, {{plain_file(0, 700, 1024), {plain_file(1, 600, 2), plain_file(2, 512, 512)}}});
  const std::vector<Json> requests = script.requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(asked(requests[0]).picture, data_url(plain(0, 350, 512)));
  EXPECT_EQ(asked(requests[0]).reference, data_url(plain(1, 512, 2)));
  EXPECT_EQ(asked(requests[1]).reference, data_url(plain(2, 512, 512)));
}

TEST_F(Mars2Judging, UnclearAnswersCountAsNoAndAreTold) {
  const LogSession log(Verbosity::kQuiet);
  EXPECT_EQ(subject_verdict({"Yes", "Perhaps", "", "Yes"}), false);
  ASSERT_EQ(log.warnings().size(), 1U);
  EXPECT_NE(log.warnings()[0].find("2 of 4 answers"), std::string::npos) << log.warnings()[0];
  EXPECT_NE(log.warnings()[0].find("\"Perhaps\""), std::string::npos) << log.warnings()[0];
}

TEST_F(Mars2Judging, JobsAskAtOnceAndJudgeTheSame) {
  const JudgeScript one_by_one(steps({{{"answer", "hash"}}}));
  const JudgeScript at_once(
      steps({{{"answer", "hash"}, {"together", 3}}}));  // else it answers nothing
  const auto expected = flat(judge(one_by_one, twelve_questions(), 1));
  EXPECT_EQ(std::set(expected.begin(), expected.end()).size(), 2U) << "both verdicts occur";
  EXPECT_EQ(flat(judge(at_once, twelve_questions(), 3)), expected);
  EXPECT_EQ(flat(judge(one_by_one, twelve_questions(), 64)), expected);
  EXPECT_EQ(progress_.done, 12);
}

TEST_F(Mars2Judging, AnInterruptedJudgementGoesOn) {
  const JudgeScript whole(steps({{{"answer", "hash"}}}));
  const auto expected = flat(judge(whole, twelve_questions()));

  Json five_answers = answers(std::vector<std::string>(5, "hash"));
  five_answers.push_back({{"status", 500}});
  const JudgeScript failing(five_answers);
  const std::filesystem::path path = folder_ / "answers.jsonl";
  expect_error<NetworkError>(
      [&] {
        AnswerCache cache(path);
        judge(failing, twelve_questions(), cache);
      },
      {"HTTP 500"});
  EXPECT_EQ(progress_.done, 5);

  const JudgeScript rest(steps({{{"answer", "hash"}}}));
  {
    AnswerCache cache(path);
    EXPECT_EQ(flat(judge(rest, twelve_questions(), cache, 4)), expected);
  }
  EXPECT_EQ(rest.num_requests(), 12U - 5U);
  EXPECT_EQ(progress_.done, 12);
  AnswerCache cache(path);
  EXPECT_EQ(flat(judge(rest, twelve_questions(), cache, 4)), expected);
  EXPECT_EQ(rest.num_requests(), 12U - 5U);
}

TEST_F(Mars2Judging, AFailureEndsQuestionsThatAreOnTheirWay) {
  const JudgeScript script(steps({{{"hang", true}}, {{"hang", true}}, {{"status", 401}}}));
  const Stopwatch stopwatch;
  expect_error<NetworkError>([&] { judge(script, twelve_questions(), 3); }, {"401"});
  EXPECT_LT(stopwatch.seconds(), 5.0);  // their time-out is 20 s
  EXPECT_EQ(script.num_requests(), 3U);
}

TEST_F(Mars2Judging, AStopEndsIt) {
  const JudgeScript script(steps({{{"answer", "Yes"}}, {{"hang", true}}}));
  const std::jthread stop([&] {
    while (script.num_requests() < 4) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    cancellation_.request();
  });
  const Stopwatch stopwatch;
  AnswerCache cache("");
  EXPECT_THROW(judge(script, twelve_questions(), cache, 3), StoppedError);
  EXPECT_LT(stopwatch.seconds(), 5.0);
  EXPECT_EQ(progress_.done, 1);
  EXPECT_THROW(judge(script, twelve_questions(), cache, 3), StoppedError);
  EXPECT_EQ(script.num_requests(), 4U);
}

TEST_F(Mars2Judging, CasesThatCannotBeJudgedAreRefused) {
  const JudgeScript script(answers({"Yes"}));
  expect_error<InputError>(
      [&] { judge(script, {{plain_file(0)}, {plain_file(0), {}, {plain_file(1)}, "_4"}}); },
      {"0-8x6.png", "'_4'"});
  expect_error<InputError>([&] { judge(script, {{folder_ / "none.png", {plain_file(1)}}}); },
                           {"none.png"});
  expect_error<InputError>([&] { judge(script, {{plain_file(0), {folder_ / "none.png"}}}); },
                           {"none.png"});
  expect_error<ConfigError>([&] { judge(script, {{plain_file(0)}}, 0); }, {"jobs"});
  EXPECT_EQ(script.num_requests(), 0U);
}

}  // namespace
}  // namespace molar
