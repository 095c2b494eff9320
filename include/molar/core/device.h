/// Where and in which number type the models compute.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

namespace molar {

/// Resolved from the command line: `--device`, `--dtype`, `--threads`.
struct ComputeOptions {
  at::Device device{at::kCPU};
  at::ScalarType dtype{at::kFloat};
};

/// 0 without CUDA.
int64_t num_cuda_devices();

/// Returns when `device` has done what it was given. On the CPU calls return no sooner; a GPU works
/// on behind them.
void wait_for(at::Device device);

/// "auto" | "cpu" | "cuda" | "cuda:n". auto: CUDA where libtorch sees a device, else CPU.
/// Throws ConfigError for another text, or for a CUDA device that is not there.
at::Device parse_device(std::string_view text);

/// "auto" | "f32" | "f16" | "bf16". auto: float16 on CUDA; on the CPU the fastest type that it has
/// instructions for: bfloat16 with AMX or AVX512-BF16, else float32 (emulated bf16 is 50x slower).
/// Throws ConfigError for another text.
at::ScalarType parse_dtype(std::string_view text, at::Device device);

/// "f32", "f16", "bf16": the spelling of `--dtype`.
std::string dtype_option(at::ScalarType dtype);

}  // namespace molar
