#include "molar/core/text.h"

#include <gtest/gtest.h>

#include "molar/core/error.h"

namespace molar {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";

TEST(Text, ValidUtf8StaysAsItIs) {
  for (const char* text :
       {"", "plain", "gr\xC3\xBC\xC3\x9F", "\xE7\x8C\xAB", "\xF0\x9F\x90\x88", "\xF4\x8F\xBF\xBF"})
    EXPECT_EQ(valid_utf8(text), text);
}

TEST(Text, EachBrokenByteBecomesOneReplacement) {
  const std::string one = kReplacement;
  EXPECT_EQ(valid_utf8("a\xFFz"), "a" + one + "z");
  EXPECT_EQ(valid_utf8("\x80"), one);                                // a tail without a lead
  EXPECT_EQ(valid_utf8("\xC3"), one);                                // cut short
  EXPECT_EQ(valid_utf8("\xC0\x80"), one + one);                      // overlong NUL
  EXPECT_EQ(valid_utf8("\xE0\x80\x80"), one + one + one);            // overlong
  EXPECT_EQ(valid_utf8("\xED\xA0\x80"), one + one + one);            // surrogate
  EXPECT_EQ(valid_utf8("\xF4\x90\x80\x80"), one + one + one + one);  // past U+10FFFF
  EXPECT_EQ(valid_utf8("\xF0\x80\x80\x80"), one + one + one + one);  // overlong
}

TEST(Text, OneLineEscapesWhatATerminalWouldObey) {
  EXPECT_EQ(one_line("a\nb\tc\rd\x1B[31m\x7F", 100), "a\\nb\\tc\\x0dd\\x1b[31m\\x7f");
  EXPECT_EQ(one_line(std::string_view("\0", 1), 100), "\\x00");
  EXPECT_EQ(one_line("\xC2\x9B", 100), "\\x9b");  // CSI as one control character
  EXPECT_EQ(one_line("\xC2\xA0\xC3\xBC", 100), "\xC2\xA0\xC3\xBC");
  EXPECT_EQ(one_line("\xFF", 100), "\\xff");
}

TEST(Text, OneLineIsCutBetweenLetters) {
  EXPECT_EQ(one_line("abcdef", 6), "abcdef");
  EXPECT_EQ(one_line("abcdefg", 6), "abcdef...");
  EXPECT_EQ(one_line("abcde\xC3\xBC", 6), "abcde...");
}

TEST(Error, MessagesAreOneLineOfLimitedLength) {
  EXPECT_STREQ(Error("key 'a\nb'").what(), "key 'a\\nb'");
  EXPECT_LT(std::string(FileError(std::string(1 << 20, 'x')).what()).size(), 2100U);
}

TEST(Error, EachTypeEndsInItsOwnExitCode) {
  EXPECT_EQ(Error("").exit_code(), ExitCode::kOther);
  EXPECT_EQ(ConfigError("").exit_code(), ExitCode::kUsage);
  EXPECT_EQ(InputError("").exit_code(), ExitCode::kInput);
  EXPECT_EQ(FileError("").exit_code(), ExitCode::kFile);
  EXPECT_EQ(FitError("").exit_code(), ExitCode::kFit);
  EXPECT_EQ(MemoryError("").exit_code(), ExitCode::kMemory);
  EXPECT_EQ(PictureError("").exit_code(), ExitCode::kPicture);
  EXPECT_EQ(StoppedError("").exit_code(), ExitCode::kStopped);
}

}  // namespace
}  // namespace molar
