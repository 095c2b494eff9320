#include "molar/evaluation/answer_cache.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <thread>
#include <vector>

#include "molar/core/log.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using namespace test;
namespace fs = std::filesystem;

constexpr const char* kLineA = "{\"key\": \"a\", \"answer\": \"Yes\"}\n";
constexpr const char* kLineB = "{\"key\": \"b\", \"answer\": \"No\"}\n";

TEST(AnswerCache, AnswersOutliveIt) {
  const TempFolder folder;
  const fs::path path = folder / "made/on/the/way/answers.jsonl";
  {
    AnswerCache cache(path);
    EXPECT_EQ(cache.find("a"), std::nullopt);
    cache.add("a", "Yes");
    EXPECT_EQ(cache.find("a"), "Yes");
    cache.add("quoted", "\"No\",\nit is\xC3\xA9 not");
  }
  AnswerCache cache(path);
  EXPECT_EQ(cache.find("a"), "Yes");
  EXPECT_EQ(cache.find("quoted"), "\"No\",\nit is\xC3\xA9 not");
  EXPECT_EQ(cache.find("b"), std::nullopt);
  cache.add("b", "No");
  EXPECT_TRUE(read_bytes(path).starts_with(kLineA));
  EXPECT_TRUE(read_bytes(path).ends_with(kLineB));
}

TEST(AnswerCache, AKeyKeepsItsFirstAnswer) {
  const TempFolder folder;
  AnswerCache cache(folder / "answers.jsonl");
  cache.add("a", "Yes");
  cache.add("a", "No");
  EXPECT_EQ(cache.find("a"), "Yes");
  EXPECT_EQ(read_bytes(folder / "answers.jsonl"), kLineA);
}

TEST(AnswerCache, WithoutAPathItLivesInMemory) {
  const TempFolder folder;
  AnswerCache cache("");
  cache.add("a", "Yes");
  EXPECT_EQ(cache.find("a"), "Yes");
}

TEST(AnswerCache, ALineThatWasCutOffIsDroppedAndReplaced) {
  for (size_t num_bytes : {size_t{1}, size_t{10}, std::string(kLineB).size() - 1}) {
    const TempFolder folder;
    const std::string torn = kLineA + std::string(kLineB).substr(0, num_bytes);
    const fs::path path = folder.file("answers.jsonl", torn);
    const LogSession log(Verbosity::kQuiet);
    {
      AnswerCache cache(path);
      ASSERT_EQ(log.warnings().size(), 1U);
      EXPECT_NE(log.warnings()[0].find("answers.jsonl"), std::string::npos);
      EXPECT_EQ(cache.find("a"), "Yes");
      EXPECT_EQ(cache.find("b"), std::nullopt);
      EXPECT_EQ(read_bytes(path), torn) << "reading changes nothing";
      cache.add("b", "No");
      cache.add("c", "Yes");
    }
    EXPECT_TRUE(read_bytes(path).starts_with(std::string(kLineA) + kLineB));
    EXPECT_EQ(AnswerCache(path).find("c"), "Yes");
    EXPECT_EQ(log.warnings().size(), 1U);
  }
}

TEST(AnswerCache, BrokenLinesAreNamed) {
  for (const char* broken : {"{\"key\": \"b\"\n", "\n", "[]\n", "{\"key\": \"b\"}\n",
                             "{\"key\": \"b\", \"answer\": 1}\n",
                             "{\"key\": \"b\", \"answer\": \"No\", \"model\": \"m\"}\n"}) {
    const TempFolder folder;
    const fs::path path = folder.file("answers.jsonl", std::string(kLineA) + broken + kLineB);
    expect_error<FileError>([&] { AnswerCache{path}; }, {"answers.jsonl:2"});
  }
}

TEST(AnswerCache, PathsThatCannotHoldAnswersAreRefused) {
  const TempFolder folder;
  expect_error<FileError>([&] { AnswerCache{folder.path()}; }, {folder.path().string()});
  const fs::path file = folder.file("file", "");
  expect_error<FileError>([&] { AnswerCache{file / "answers.jsonl"}; },
                          {"cannot create folder", file.string()});
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_error<FileError>([&] { AnswerCache{pipe}; }, {"pipe", "regular file"});
}

TEST(AnswerCache, TwoRunsDoNotShareAFile) {
  const TempFolder folder;
  const fs::path path = folder / "answers.jsonl";
  {
    const AnswerCache cache(path);
    expect_error<FileError>([&] { AnswerCache{path}; }, {"answers.jsonl", "another run"});
  }
  EXPECT_NO_THROW(AnswerCache{path});
}

/// Files may grow to `max_bytes` while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t max_bytes) : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{max_bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  sighandler_t old_handler_;
  rlimit old_{};
};

TEST(AnswerCache, AFullDiskIsToldAndLeavesNoBrokenLineInTheMiddle) {
  const TempFolder folder;
  const fs::path path = folder / "answers.jsonl";
  AnswerCache cache(path);
  cache.add("a", "Yes");
  {
    const FileSizeLimit limit(std::string(kLineA).size() + 10);
    expect_error<FileError>([&] { cache.add("b", "No"); }, {"answers.jsonl", "10 of", "full"});
  }
  {
    const FileSizeLimit limit(std::string(kLineA).size());
    expect_error<FileError>([&] { cache.add("b", "No"); }, {"cannot write", "answers.jsonl"});
  }
  EXPECT_EQ(cache.find("b"), std::nullopt);
  cache.add("b", "No");
  EXPECT_EQ(read_bytes(path), std::string(kLineA) + kLineB);
}

TEST(AnswerCache, ThreadsWriteWholeLines) {
  const TempFolder folder;
  const fs::path path = folder / "answers.jsonl";
  const auto key = [](int thread, int i) { return std::to_string(thread * 100 + i); };
  {
    AnswerCache cache(path);
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread)
      threads.emplace_back([&cache, &key, thread] {
        for (int i = 0; i < 10; ++i) cache.add(key(thread, i), "answer " + key(thread, i));
      });
  }
  const AnswerCache cache(path);
  for (int thread = 0; thread < 4; ++thread)
    for (int i = 0; i < 10; ++i) EXPECT_EQ(cache.find(key(thread, i)), "answer " + key(thread, i));
}

}  // namespace
}  // namespace molar
