#include "option_checks.h"

#include <fmt/format.h>

#include <limits>

#include "molar/core/error.h"

namespace molar {

void check_integers(const std::vector<IntegerRange>& ranges) {
  for (const auto& [option, value, low, high] : ranges)
    if (value < low || value > high)
      throw ConfigError(fmt::format("{} {}: wanted {} to {}", option, value, low, high));
}

void check_numbers(const std::vector<NumberRange>& ranges) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const auto& [option, value, low, high] : ranges)
    if (!(value >= low && value < high))
      throw ConfigError(fmt::format("{} {}: wanted a number {} {}{}", option, value,
                                    low > 0 ? "above" : "of at least", low > 0 ? 0 : low,
                                    high < kInfinity ? fmt::format(" and below {}", high) : ""));
}

void check_output(const std::filesystem::path& output) {
  if (output.empty()) throw ConfigError("no output; wanted -o FILE.safetensors");
  if (output.extension() != ".safetensors")
    throw ConfigError(
        fmt::format("-o '{}': wanted a name that ends in .safetensors", output.string()));
}

void check_training_dtype(at::ScalarType dtype) {
  if (dtype == at::kHalf)
    throw ConfigError(
        "--dtype f16: gradients underflow in float16; wanted f32, or bf16 for half the memory");
}

}  // namespace molar
