#include "molar/evaluation/chat_endpoint.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <limits>
#include <thread>

#include "judge_server.h"
#include "molar/core/log.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using namespace test;

constexpr const char* kKey = "sk-secret-0123456789";

TEST(ChatEndpointOptions, WhatCannotWorkIsRefused) {
  const ChatEndpointOptions good{.url = "https://host/v1", .model = "judge"};
  EXPECT_NO_THROW(good.validate());
  const auto refused = [&](const auto& change, std::initializer_list<std::string_view> pieces) {
    ChatEndpointOptions options = good;
    change(options);
    return expect_error<ConfigError>([&] { options.validate(); }, pieces);
  };
  using Options = ChatEndpointOptions;
  for (const char* url : {"", "host/v1", "ftp://host/v1", "file:///etc/passwd", "http://"})
    refused([&](Options& o) { o.url = url; }, {"http://HOST", "https://HOST", url});
  refused([](Options& o) { o.url = "http://host/v1?key=1"; }, {"'?'"});
  EXPECT_EQ(
      refused([](Options& o) { o.url = "http://me:hush@host/v1"; }, {"key file"}).find("hush"),
      std::string::npos);
  refused([](Options& o) { o.model = ""; }, {"model"});
  refused([](Options& o) { o.num_retries = -1; }, {"retries", "-1"});
  for (const double timeout_s : {0.0, -1.0, 3601.0, std::numeric_limits<double>::quiet_NaN()})
    refused([&](Options& o) { o.timeout_s = timeout_s; }, {"time-out", "3600"});
  refused([](Options& o) { o.max_tokens = 0; }, {"tokens", "0"});
  for (const double backoff_s : {-1.0, 61.0})
    refused([&](Options& o) { o.backoff_s = backoff_s; }, {"back-off", "60"});
}

TEST(ChatEndpoint, ABuildWithoutAJudgeSaysSo) {
  if (ChatEndpoint::available()) GTEST_SKIP() << "this build has a judge";
  expect_error<ConfigError>([] { ChatEndpoint({.url = "http://host/v1", .model = "judge"}); },
                            {"this build has no judge", "-DMOLAR_JUDGE=ON"});
}

class ChatEndpointCalls : public testing::Test {
 protected:
  void SetUp() override {
    if (!ChatEndpoint::available()) GTEST_SKIP() << "this build has no judge";
  }

  static ChatEndpointOptions options_for(const std::string& url) {
    return {.url = url, .model = "judge", .num_retries = 3, .timeout_s = 20, .backoff_s = 0.01};
  }
  ChatEndpointOptions with_key(const std::string& url) const {
    ChatEndpointOptions options = options_for(url);
    options.key_file = folder_.file("key", std::string("  ") + kKey + "\r\n");
    return options;
  }
  std::string ask(const ChatEndpointOptions& options, const std::string& body = "{}") {
    return ChatEndpoint(options).ask(body, cancellation_);
  }
  std::string ask(const JudgeScript& script) { return ask(options_for(script.url())); }

  /// The message; each is short, and holds no key.
  std::string expect_failure(const ChatEndpointOptions& options,
                             std::initializer_list<std::string_view> pieces) {
    const std::string message = expect_error<NetworkError>([&] { ask(options); }, pieces);
    EXPECT_LT(message.size(), 600U);
    EXPECT_EQ(message.find("secret"), std::string::npos) << message;
    return message;
  }
  std::string expect_failure(const JudgeScript& script,
                             std::initializer_list<std::string_view> pieces) {
    return expect_failure(options_for(script.url()), pieces);
  }

  TempFolder folder_;
  CancellationToken cancellation_;
};

TEST_F(ChatEndpointCalls, ABodyHoldsModelPartsAndLimits) {
  ChatEndpointOptions options = options_for("http://host/v1");
  options.max_tokens = 7;
  const std::string body =
      ChatEndpoint(options).request_body({ChatPicture{"\x89PNG"}, ChatText{"Same \"dog\"?"}});
  EXPECT_EQ(Json::parse(body), Json::parse(R"({
    "model": "judge", "temperature": 0, "max_tokens": 7,
    "messages": [{"role": "user", "content": [
      {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
      {"type": "text", "text": "Same \"dog\"?"}]}]})"));
}

TEST_F(ChatEndpointCalls, PicturesAreBase64) {
  const ChatEndpoint endpoint(options_for("http://host/v1"));
  for (const auto& [bytes, text] : std::vector<std::pair<std::string, std::string>>{
           {"", ""},
           {"f", "Zg=="},
           {"fo", "Zm8="},
           {"foo", "Zm9v"},
           {"foob", "Zm9vYg=="},
           {"fooba", "Zm9vYmE="},
           {"foobar", "Zm9vYmFy"},  // RFC 4648, section 10
           {std::string("\xFF\x00\xFE", 3), "/wD+"}})
    EXPECT_NE(endpoint.request_body({ChatPicture{bytes}}).find("base64," + text + "\""),
              std::string::npos)
        << text;
}

TEST_F(ChatEndpointCalls, ABodyArrivesAsItIs) {
  const JudgeScript script(answers({"Yes"}));
  const std::string body(3 << 20, 'x');  // more than curl sends without asking first
  EXPECT_EQ(ask(options_for(script.url()), body), "Yes");
  const Json request = script.requests().at(0);
  EXPECT_EQ(request["body"], body);
  EXPECT_TRUE(request["path"].get<std::string>().ends_with("/v1/chat/completions"));
  EXPECT_EQ(request["content_type"], "application/json");
  EXPECT_EQ(request["authorization"], "");
}

TEST_F(ChatEndpointCalls, TheUrlMayHoldTheWholePath) {
  for (const char* ending : {"/", "/chat/completions", "/chat/completions/"}) {
    const JudgeScript script(answers({"Yes"}));
    EXPECT_EQ(ask(options_for(script.url() + ending)), "Yes");
    EXPECT_EQ("http://127.0.0.1:" + std::to_string(JudgeServer::get().port()) +
                  script.requests().at(0)["path"].get<std::string>(),
              script.url() + "/chat/completions");
  }
}

TEST_F(ChatEndpointCalls, ContentIsTextOrAListOfTexts) {
  const JudgeScript script(steps({{{"content",
                                    {{{"type", "text"}, {"text", "Ye"}},
                                     {{"type", "other"}},
                                     {{"type", "text"}, {"text", "s"}}}}},
                                  {{"content", nullptr}}}));
  EXPECT_EQ(ask(script), "Yes");
  EXPECT_EQ(ask(script), "");
}

TEST_F(ChatEndpointCalls, TheKeyIsABearerToken) {
  const JudgeScript script(answers({"Yes"}));
  EXPECT_EQ(ask(with_key(script.url())), "Yes");
  EXPECT_EQ(script.requests().at(0)["authorization"], std::string("Bearer ") + kKey);
}

TEST_F(ChatEndpointCalls, KeyFilesHoldOneKey) {
  ChatEndpointOptions options = options_for("http://host/v1");
  options.key_file = folder_ / "missing";
  expect_error<FileError>([&] { ChatEndpoint{options}; }, {"missing"});
  for (const char* empty : {"", " \n\n"}) {
    options.key_file = folder_.file("empty", empty);
    expect_error<FileError>([&] { ChatEndpoint{options}; }, {"empty", "found nothing"});
  }
  for (const char* broken : {"secret\nX-Evil: 1", "secret word", "secret\xC3\xA9", "secret\x01x"}) {
    options.key_file = folder_.file("broken", broken);
    const std::string message =
        expect_error<FileError>([&] { ChatEndpoint{options}; }, {"broken", "one key"});
    EXPECT_EQ(message.find("secret"), std::string::npos);
  }
}

TEST_F(ChatEndpointCalls, ARefusedKeyIsNotTriedAgainAndNotTold) {
  for (const int status : {401, 403}) {
    const JudgeScript script(steps(
        {{{"status", status}, {"body", R"({"error": {"message": "bad '{authorization}'"}})"}}}));
    expect_failure(with_key(script.url()),
                   {script.url(), std::to_string(status), "bad 'Bearer ***'", "key file"});
    EXPECT_EQ(script.num_requests(), 1U);
  }
}

TEST_F(ChatEndpointCalls, NoHalfOfAKeyIsLeftWhereTextIsCut) {
  for (size_t num_before = 170; num_before < 200; num_before += 5) {
    const JudgeScript script(
        steps({{{"status", 401}, {"body", std::string(num_before, '-') + "{authorization}"}}}));
    EXPECT_EQ(expect_failure(with_key(script.url()), {"401"}).find("sk-"), std::string::npos);
  }
}

TEST_F(ChatEndpointCalls, OtherRefusalsAreNotTriedAgain) {
  const JudgeScript missing(
      steps({{{"status", 404}, {"body", R"({"error": "no model 'judge'"})"}}}));
  expect_failure(missing, {"404", "no model 'judge'", "URL", "model's name"});
  EXPECT_EQ(missing.num_requests(), 1U);
  const JudgeScript bad(steps({{{"status", 400}, {"body", "<html>\n" + std::string(9000, 'x')}}}));
  expect_failure(bad, {"400", "<html>\\nxxx"});
  EXPECT_EQ(bad.num_requests(), 1U);
}

TEST_F(ChatEndpointCalls, RedirectsAreNotFollowed) {
  const JudgeScript target(answers({"Yes"}));
  const JudgeScript script(
      steps({{{"status", 307},
              {"headers", {{"Location", target.url() + "/chat/completions?{authorization}"}}}}}));
  expect_failure(with_key(script.url()), {"307", target.url()});
  EXPECT_EQ(script.num_requests(), 1U);
  EXPECT_EQ(target.num_requests(), 0U);
}

TEST_F(ChatEndpointCalls, WhatPassesIsTriedAgain) {
  for (const int status : {408, 409, 425, 429, 500, 502, 503, 504}) {
    const JudgeScript script(
        steps({{{"status", status}}, {{"status", status}}, {{"answer", "Yes"}}}));
    EXPECT_EQ(ask(script), "Yes") << status;
    EXPECT_EQ(script.num_requests(), 3U) << status;
  }
  const JudgeScript script(steps({{{"close", true}}, {{"answer", "Yes"}}}));
  EXPECT_EQ(ask(script), "Yes");
}

TEST_F(ChatEndpointCalls, RetriesEnd) {
  const JudgeScript script(
      steps({{{"status", 500}, {"body", R"({"error": {"message": "too busy"}})"}}}));
  expect_failure(script, {script.url(), "4 tries", "HTTP 500", "\"too busy\"", "later"});
  EXPECT_EQ(script.num_requests(), 4U);
  ChatEndpointOptions options = options_for(script.url());
  options.num_retries = 0;
  expect_failure(options, {"1 try"});
  EXPECT_EQ(script.num_requests(), 5U);
}

TEST_F(ChatEndpointCalls, EachWaitIsTwiceTheOneBefore) {
  const JudgeScript script(steps({{{"status", 503}}}));
  ChatEndpointOptions options = options_for(script.url());
  options.backoff_s = 0.05;
  const Stopwatch stopwatch;
  expect_failure(options, {"503"});
  EXPECT_GE(stopwatch.seconds(), 0.05 + 0.1 + 0.2);
}

TEST_F(ChatEndpointCalls, TheServerMayAskForMorePatience) {
  const JudgeScript script(
      steps({{{"status", 429}, {"headers", {{"Retry-After", "1"}}}}, {{"answer", "Yes"}}}));
  const Stopwatch stopwatch;
  EXPECT_EQ(ask(script), "Yes");
  EXPECT_GE(stopwatch.seconds(), 1.0);
}

TEST_F(ChatEndpointCalls, ASilentServerIsGivenUp) {
  const JudgeScript script(steps({{{"hang", true}}}));
  ChatEndpointOptions options = options_for(script.url());
  options.num_retries = 1;
  options.timeout_s = 0.2;
  const Stopwatch stopwatch;
  expect_failure(options, {"2 tries", "timed out", "is the server running"});
  EXPECT_GE(stopwatch.seconds(), 0.4);
  EXPECT_EQ(script.num_requests(), 2U);
}

TEST_F(ChatEndpointCalls, NobodyAtThePortIsToldSo) {
  const int bound = ::socket(AF_INET, SOCK_STREAM, 0);  // it never listens
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(bound, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::getsockname(bound, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/v1";
  static_cast<void>(JudgeServer::get());  // which keeps proxies away
  expect_failure(options_for(url), {url, "4 tries", "connect", "is the server running"});
  ::close(bound);
}

TEST_F(ChatEndpointCalls, AnAddressThatIsNoneIsNotTriedAgain) {
  ChatEndpointOptions options = options_for("http://[bad/v1");
  options.backoff_s = 30;
  expect_failure(options, {"http://[bad/v1"});
}

TEST_F(ChatEndpointCalls, AnAnswerThatIsNoChatCompletionIsRefused) {
  for (const char* body :
       {"", "<html>Welcome</html>", "[]", "{}", R"({"choices": []})", R"({"choices": [1]})",
        R"({"choices": [{"message": {}}]})", R"({"choices": [{"message": {"content": 1}}]})",
        R"({"choices": {"0": 1}})", R"({"error": {"message": "out of credit"}})"}) {
    const JudgeScript script(steps({{{"body", body}}}));
    expect_failure(script, {"HTTP 200", "wanted a chat completion"});
    EXPECT_EQ(script.num_requests(), 1U) << body;
  }
}

TEST_F(ChatEndpointCalls, AnAnswerWithoutEndIsCutOff) {
  const JudgeScript script(steps({{{"size", (8 << 20) + 1}}}));
  expect_failure(script, {"more than 8 MiB"});
  EXPECT_EQ(script.num_requests(), 1U);
}

TEST_F(ChatEndpointCalls, LogsOfRetriesHoldNoKey) {
  const JudgeScript script(
      steps({{{"status", 500}, {"body", "{authorization}"}}, {{"answer", "Yes"}}}));
  testing::internal::CaptureStderr();
  {
    const LogSession session(Verbosity::kVerbose);
    ask(with_key(script.url()));
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("HTTP 500, \"Bearer ***\""), std::string::npos) << log;
  EXPECT_EQ(log.find("secret"), std::string::npos) << log;
}

/// Asks for a stop when a request has arrived.
class StopAfterArrival {
 public:
  StopAfterArrival(const JudgeScript& script, CancellationToken& cancellation)
      : thread_([&] {
          while (script.num_requests() == 0)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
          stopwatch_ = Stopwatch();
          cancellation.request();
        }) {}
  double seconds_since() {
    thread_.join();
    return stopwatch_.seconds();
  }

 private:
  Stopwatch stopwatch_;
  std::jthread thread_;
};

TEST_F(ChatEndpointCalls, AStopEndsAWait) {
  const JudgeScript script(steps({{{"status", 500}}}));
  ChatEndpointOptions options = options_for(script.url());
  options.backoff_s = 60;
  StopAfterArrival stop(script, cancellation_);
  EXPECT_THROW(ask(options), StoppedError);
  EXPECT_LT(stop.seconds_since(), 0.5);  // 0.1 s, and a busy machine
  EXPECT_THROW(ask(options), StoppedError);
  EXPECT_EQ(script.num_requests(), 1U);
}

TEST_F(ChatEndpointCalls, AStopEndsATransfer) {
  const JudgeScript script(steps({{{"hang", true}}}));
  StopAfterArrival stop(script, cancellation_);
  EXPECT_THROW(ask(script), StoppedError);
  EXPECT_LT(stop.seconds_since(), 0.5);
}

}  // namespace
}  // namespace molar
