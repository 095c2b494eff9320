#include "molar/io/value_list.h"

#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;
using Texts = std::vector<std::string>;

Texts values(std::string_view text, size_t most = 100) {
  return parse_value_list(text, "--x seed", most);
}

TEST(ValueList, ReadsCellsAsCsvHasThem) {
  EXPECT_EQ(values("1,2,3"), (Texts{"1", "2", "3"}));
  EXPECT_EQ(values("np"), Texts{"np"});
  EXPECT_EQ(values("\"a dog, running\",a \u00fcber cat"),
            (Texts{"a dog, running", "a \u00fcber cat"}));
  EXPECT_EQ(values("\"a \"\"big\"\" dog\",x"), (Texts{"a \"big\" dog", "x"}));
  EXPECT_EQ(values("ink.safetensors@0.8:MID=0.5,x"), (Texts{"ink.safetensors@0.8:MID=0.5", "x"}));
}

TEST(ValueList, CountsRangesExactly) {
  EXPECT_EQ(values("0.4:1.2:0.2"), (Texts{"0.4", "0.6", "0.8", "1.0", "1.2"}));
  EXPECT_EQ(values("1:4:1"), (Texts{"1", "2", "3", "4"}));
  EXPECT_EQ(values("1:4:2"), (Texts{"1", "3"}));
  EXPECT_EQ(values("3:-1:-2"), (Texts{"3", "1", "-1"}));
  EXPECT_EQ(values("-.5:.5:.25"), (Texts{"-0.50", "-0.25", "0.00", "0.25", "0.50"}));
  EXPECT_EQ(values("7:7:1"), Texts{"7"});
  EXPECT_EQ(values("0:0.3:0.1").back(), "0.3");  // 0.1 * 3 is above 0.3 in binary
}

TEST(ValueList, SaysWhatIsWrong) {
  expect_error<ConfigError>([] { values("1:3"); }, {"--x seed", "FIRST:LAST:STEP"});
  expect_error<ConfigError>([] { values("1:2:3:4"); }, {"FIRST:LAST:STEP"});
  expect_error<ConfigError>([] { values("1:3:0"); }, {"--x seed", "the step is 0"});
  expect_error<ConfigError>([] { values("1:3:-1"); }, {"away from 3", "empty"});
  expect_error<ConfigError>([] { values("3:1:1"); }, {"away from 1", "empty"});
  expect_error<ConfigError>([] { values("1:1000:1"); }, {"1000 values", "the most is 100"});
  expect_error<ConfigError>([] { values("1,2,3", 2); }, {"3 values", "the most is 2"});
  expect_error<ConfigError>([] { values(""); }, {"no values"});
  expect_error<ConfigError>([] { values("1,,2"); }, {"an empty value"});
  expect_error<ConfigError>([] { values("1,"); }, {"an empty value"});
  expect_error<ConfigError>([] { values("1,2,1"); }, {"'1' stands twice"});
  expect_error<ConfigError>([] { values("\"1,2"); }, {"--x seed"});
  expect_error<ConfigError>([] { values("1\n2"); }, {"line break"});
}

}  // namespace
}  // namespace molar
