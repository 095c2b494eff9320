#include "molar/core/log.h"

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <string>

namespace molar {
namespace {

struct Streams {
  std::string out, err;
};

Streams log_all_levels(Verbosity verbosity) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  {
    const LogSession session(verbosity);
    spdlog::debug("d-line");
    spdlog::info("i-line");
    spdlog::warn("w-line");
    spdlog::error("e-line");
  }
  return {testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

TEST(LogSession, StandardOutputStaysEmpty) {
  EXPECT_EQ(log_all_levels(Verbosity::kVerbose).out, "");
}

TEST(LogSession, NormalShowsInformationAndAbove) {
  const std::string text = log_all_levels(Verbosity::kNormal).err;
  EXPECT_EQ(text.find("d-line"), std::string::npos);
  EXPECT_NE(text.find("info: i-line\n"), std::string::npos) << text;
  EXPECT_NE(text.find("warning: w-line\n"), std::string::npos) << text;
}

TEST(LogSession, QuietShowsErrorsOnly) {
  EXPECT_EQ(log_all_levels(Verbosity::kQuiet).err, "error: e-line\n");
}

TEST(LogSession, VerboseShowsDetails) {
  EXPECT_NE(log_all_levels(Verbosity::kVerbose).err.find("debug: d-line\n"), std::string::npos);
}

TEST(LogSession, KeepsEveryWarningEvenWhenQuiet) {
  const LogSession session(Verbosity::kQuiet);
  spdlog::warn("first {}", 1);
  spdlog::info("no warning");
  spdlog::warn("second");
  EXPECT_EQ(session.warnings(), (std::vector<std::string>{"first 1", "second"}));
}

TEST(LogSession, ALaterSessionStartsWithoutWarnings) {
  {
    const LogSession session(Verbosity::kQuiet);
    spdlog::warn("old");
  }
  EXPECT_TRUE(LogSession(Verbosity::kQuiet).warnings().empty());
}

}  // namespace
}  // namespace molar
