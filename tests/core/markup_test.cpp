#include "molar/core/markup.h"

#include <gtest/gtest.h>

namespace molar {
namespace {

TEST(Markup, Base64IsThatOfRfc4648) {
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [text, wanted] : cases) EXPECT_EQ(base64(text), wanted);
  EXPECT_EQ(base64("\xFB\xFF\xFE"), "+//+");
}

TEST(Markup, OnlySpecialBytesAreEscaped) {
  EXPECT_EQ(escaped_markup("<b>\"x\" & y</b>", "<>&\""),
            "&#60;b&#62;&#34;x&#34; &#38; y&#60;/b&#62;");
  EXPECT_EQ(escaped_markup("a|b<c>", "|"), "a&#124;b<c>");
  EXPECT_EQ(escaped_markup("a\nb\x1B", "<"), "a\\nb\\x1b");
}

}  // namespace
}  // namespace molar
