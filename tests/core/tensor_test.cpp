#include "molar/core/tensor.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "molar/core/cancellation.h"
#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;

TEST(CheckShape, TakesTheWantedShapeAndAnySizeForMinusOne) {
  EXPECT_NO_THROW(check_shape(at::zeros({2, 4, 8}), {2, 4, 8}, "x"));
  EXPECT_NO_THROW(check_shape(at::zeros({2, 4, 8}), {-1, 4, -1}, "x"));
  EXPECT_NO_THROW(check_shape(at::zeros({}), {}, "x"));
}

TEST(CheckShape, NamesTheTensorTheWantedAndTheFoundShape) {
  expect_error<Error>([] { check_shape(at::zeros({2, 3}), {2, 4}, "latents"); },
                      {"latents", "wanted shape [2, 4]", "found [2, 3]"});
  EXPECT_THROW(check_shape(at::zeros({2}), {2, 1}, "x"), Error);
  EXPECT_THROW(check_shape(at::zeros({2, 1}), {2}, "x"), Error);
}

TEST(DtypeName, IsTheNameThatPyTorchPrints) {
  EXPECT_EQ(dtype_name(at::kFloat), "float32");
  EXPECT_EQ(dtype_name(at::kDouble), "float64");
  EXPECT_EQ(dtype_name(at::kHalf), "float16");
  EXPECT_EQ(dtype_name(at::kBFloat16), "bfloat16");
  EXPECT_EQ(dtype_name(at::kLong), "int64");
  EXPECT_EQ(dtype_name(at::kInt), "int32");
  EXPECT_EQ(dtype_name(at::kShort), "int16");
  EXPECT_EQ(dtype_name(at::kChar), "int8");
  EXPECT_EQ(dtype_name(at::kByte), "uint8");
  EXPECT_EQ(dtype_name(at::kBool), "bool");
  EXPECT_EQ(dtype_name(at::kFloat8_e4m3fn), "Float8_e4m3fn");
}

TEST(CancellationToken, StopsOnlyAfterARequest) {
  CancellationToken token;
  EXPECT_FALSE(token.requested());
  EXPECT_NO_THROW(token.stop_here_if_requested());
  token.request();
  EXPECT_TRUE(token.requested());
  expect_error<StoppedError>([&] { token.stop_here_if_requested(); }, {"safe point", "again"});
}

}  // namespace
}  // namespace molar
