#include "molar/training/training_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace molar {
namespace {

TEST(EpochOrder, ShowsEveryPictureOncePerEpochInAnOrderOfItsOwn) {
  EpochOrder order(3, RandomStream::kInstances, 7);
  std::set<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    std::vector<int64_t> seen = order.batch(epoch, 7);
    orders.insert(seen);
    std::ranges::sort(seen);
    EXPECT_EQ(seen, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}));
  }
  EXPECT_EQ(orders.size(), 4U);
}

TEST(EpochOrder, DependsOnThePlaceAloneNotOnTheWayThere) {
  EpochOrder walked(3, RandomStream::kInstances, 5), jumped(3, RandomStream::kInstances, 5);
  std::vector<int64_t> last;
  for (int64_t pass = 0; pass < 9; ++pass) last = walked.batch(pass, 3);  // over epochs' ends
  EXPECT_EQ(jumped.batch(8, 3), last);
}

TEST(EpochOrder, StreamsAndSeedsDiffer) {
  EpochOrder instances(3, RandomStream::kInstances, 50), classes(3, RandomStream::kClasses, 50),
      other_seed(4, RandomStream::kInstances, 50);
  const auto first = instances.batch(0, 50);
  EXPECT_NE(first, classes.batch(0, 50));
  EXPECT_NE(first, other_seed.batch(0, 50));
}

TEST(EpochOrder, ABatchLargerThanTheSetGoesRoundAgain) {
  EpochOrder order(0, RandomStream::kClasses, 2);
  const auto batch = order.batch(0, 5);
  EXPECT_EQ(std::ranges::count(batch, 0) + std::ranges::count(batch, 1), 5);
  EXPECT_NE(batch[0], batch[1]);
  EXPECT_NE(batch[2], batch[3]);
}

}  // namespace
}  // namespace molar
