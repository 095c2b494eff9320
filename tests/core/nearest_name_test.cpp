#include "molar/core/nearest_name.h"

#include <gtest/gtest.h>

namespace molar {
namespace {

const std::vector<std::string> kNames = {"euler", "euler_a", "heun", "lms", "unipc"};

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("euler", "euler"), 0U);
  EXPECT_EQ(edit_distance("", "lms"), 3U);
  EXPECT_EQ(edit_distance("lms", ""), 3U);
  EXPECT_EQ(edit_distance("euler", "euler_a"), 2U);
  EXPECT_EQ(edit_distance("huen", "heun"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(NearestName, IsTheLeastDistantThatIsNear) {
  EXPECT_EQ(nearest_name("eular", kNames), "euler");
  EXPECT_EQ(nearest_name("eular_a", kNames), "euler_a");
  EXPECT_EQ(nearest_name("uni-pc", kNames), "unipc");
  EXPECT_EQ(nearest_name("karras", kNames), std::nullopt);
  EXPECT_EQ(nearest_name("", kNames), std::nullopt);
  EXPECT_EQ(nearest_name("euler", {}), std::nullopt);
}

TEST(NearestName, NeverTurnsAWholeNameIntoAnother) {
  EXPECT_EQ(nearest_name("x", {"a", "b"}), std::nullopt);
}

TEST(Suggestion, IsWordsOrNothing) {
  EXPECT_EQ(suggestion("lsm", kNames), "; did you mean 'lms'?");
  EXPECT_EQ(suggestion("photograph", kNames), "");
  EXPECT_EQ(suggestion_or_stop("lsm", kNames), "; did you mean 'lms'?");
  EXPECT_EQ(suggestion_or_stop("photograph", kNames), ".");
}

}  // namespace
}  // namespace molar
