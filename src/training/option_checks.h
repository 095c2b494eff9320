/// Checks of what all trainings are told. All throw ConfigError that names the option, what was
/// wanted and what was found.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <vector>

namespace molar {

struct IntegerRange {
  const char* option;
  int64_t value, low, high;
};

struct NumberRange {
  const char* option;
  double value, low, high;  ///< [low, high)
};

constexpr int64_t kManySteps = int64_t{1} << 30;

void check_integers(const std::vector<IntegerRange>& ranges);
void check_numbers(const std::vector<NumberRange>& ranges);
/// -o: a .safetensors file.
void check_output(const std::filesystem::path& output);
/// --dtype: not float16.
void check_training_dtype(at::ScalarType dtype);

}  // namespace molar
