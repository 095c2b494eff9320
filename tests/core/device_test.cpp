#include "molar/core/device.h"

#include <ATen/Context.h>
#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;

TEST(Device, ReadsTheCpu) { EXPECT_EQ(parse_device("cpu"), at::Device(at::kCPU)); }

TEST(Device, AutoTakesCudaWhereThereIsOne) {
  EXPECT_EQ(parse_device("auto").type(), at::hasCUDA() ? at::kCUDA : at::kCPU);
}

TEST(Device, RefusesOtherTexts) {
  for (const char* text : {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:1x",
                           "cuda:99999999999999999999", "cuda:128", "cpu:0", " cpu"})
    expect_error<ConfigError>([&] { parse_device(text); },
                              {"--device", text, "wanted auto, cpu, cuda or cuda:N"});
}

TEST(Device, RefusesACudaDeviceThatIsNotThere) {
  expect_error<ConfigError>([] { parse_device("cuda:127"); },
                            {"cuda:127", "CUDA device", "--device cpu"});
}

TEST(Dtype, ReadsTheThreeTypes) {
  const at::Device cpu(at::kCPU);
  for (const auto& [text, dtype] : {std::pair("f32", at::kFloat), std::pair("f16", at::kHalf),
                                    std::pair("bf16", at::kBFloat16)}) {
    EXPECT_EQ(parse_dtype(text, cpu), dtype);
    EXPECT_EQ(dtype_option(dtype), text);
  }
}

TEST(Dtype, AutoIsHalfOnCudaAndNeverHalfOnTheCpu) {
  EXPECT_EQ(parse_dtype("auto", at::Device(at::kCUDA, 0)), at::kHalf);
  const at::ScalarType on_cpu = parse_dtype("auto", at::Device(at::kCPU));
  EXPECT_TRUE(on_cpu == at::kFloat || on_cpu == at::kBFloat16);
}

TEST(Dtype, RefusesOtherTexts) {
  for (const char* text : {"", "fp16", "float32", "F32"})
    expect_error<ConfigError>([&] { parse_dtype(text, at::Device(at::kCPU)); },
                              {"--dtype", text, "wanted auto, f32, f16 or bf16"});
}

}  // namespace
}  // namespace molar
