#include "molar/core/device.h"

#include <ATen/Context.h>
#include <fmt/format.h>

#include <charconv>

#include "molar/core/error.h"
#include "molar/core/nearest_name.h"

namespace molar {
namespace {

bool cpu_computes_bfloat16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");  // every processor with AMX has it too
#else
  return false;
#endif
}

}  // namespace

int64_t num_cuda_devices() {
  return at::hasCUDA() ? static_cast<int64_t>(at::detail::getCUDAHooks().deviceCount()) : 0;
}

void wait_for(at::Device device) {
  if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

at::Device parse_device(std::string_view text) {
  const int64_t num_cuda = num_cuda_devices();
  if (text == "cpu") return at::Device(at::kCPU);
  if (text == "auto") return num_cuda > 0 ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  int64_t index = 0;
  bool valid = text == "cuda";
  if (text.starts_with("cuda:")) {
    const std::string_view digits = text.substr(5);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    valid =
        error == std::errc() && end == digits.data() + digits.size() && index >= 0 && index < 128;
  }
  if (!valid)
    throw ConfigError(fmt::format("--device '{}': wanted auto, cpu, cuda or cuda:N", text));
  if (index >= num_cuda)
    throw ConfigError(fmt::format(
        "--device '{}': this libtorch sees {} CUDA device(s); use --device cpu", text, num_cuda));
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

at::ScalarType parse_dtype(std::string_view text, at::Device device) {
  if (text == "auto") {
    if (device.is_cuda()) return at::kHalf;
    return cpu_computes_bfloat16() ? at::kBFloat16 : at::kFloat;
  }
  if (text == "f32") return at::kFloat;
  if (text == "f16") return at::kHalf;
  if (text == "bf16") return at::kBFloat16;
  throw ConfigError(fmt::format("--dtype '{}': wanted auto, f32, f16 or bf16{}", text,
                                suggestion(text, {"auto", "f32", "f16", "bf16"})));
}

std::string dtype_option(at::ScalarType dtype) {
  if (dtype == at::kHalf) return "f16";
  if (dtype == at::kBFloat16) return "bf16";
  return "f32";
}

}  // namespace molar
