#include "molar/core/finite.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace molar {
namespace {

TEST(IsFinite, FindsTheOneNumberThatIsNone) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble})
    for (const int64_t count : {1, 1023, 1024, 5000})
      for (const double odd : {kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()}) {
        const at::Tensor tensor = at::randn({count}).to(dtype);
        tensor[count / 2] = 6e4;  // the largest power that float16 has
        EXPECT_TRUE(is_finite(tensor)) << dtype << " " << count;
        for (const int64_t place : {int64_t{0}, count / 2, count - 1}) {
          const at::Tensor broken = tensor.clone();
          broken[place] = odd;
          EXPECT_FALSE(is_finite(broken)) << dtype << " " << count << " " << place << " " << odd;
        }
      }
}

TEST(IsFinite, LooksAtWhatAViewShowsAndNoMore) {
  const at::Tensor tensor = at::zeros({4, 4});
  tensor[1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(is_finite(tensor.t()));
  EXPECT_TRUE(is_finite(tensor.narrow(1, 0, 2)));
  EXPECT_TRUE(is_finite(at::empty({0})));
}

}  // namespace
}  // namespace molar
