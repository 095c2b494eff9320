#include "timestep_spacing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "molar/core/error.h"

namespace molar {
namespace {

/// Half to even, as numpy rounds.
std::vector<double> rounded(std::vector<double> values) {
  for (double& value : values) value = std::nearbyint(value);
  return values;
}

std::vector<double> reversed(std::vector<double> values) {
  std::reverse(values.begin(), values.end());
  return values;
}

/// 0, stride, 2 stride, ... shifted by the offset, noisiest first.
std::vector<double> leading(int64_t count, int64_t stride, int64_t offset) {
  std::vector<double> values;
  for (int64_t i = count - 1; i >= 0; --i)
    values.push_back(static_cast<double>(i * stride + offset));
  return values;
}

/// num_timesteps - 1 and down from there by T / num_steps.
/// Differs from reference: where T / num_steps rounds down (61 or 103 steps of 1000, 62 such counts
/// in all) numpy's range has one value too many and diffusers evaluates the model at timestep -1.
std::vector<double> trailing(int64_t num_train_timesteps, int64_t num_steps,
                             int64_t num_timesteps) {
  const double stride = static_cast<double>(num_train_timesteps) / static_cast<double>(num_steps);
  const auto start = static_cast<double>(num_timesteps);
  const double step = (start - stride) - start;  // the difference numpy's range goes on with
  std::vector<double> values;
  for (int64_t i = 0; i < num_steps; ++i) {
    const double value = std::nearbyint(start + static_cast<double>(i) * step) - 1;
    if (value < 0) break;
    values.push_back(value);
  }
  return values;
}

}  // namespace

std::vector<double> even_range(double start, double stop, int64_t count) {
  std::vector<double> values;
  const double step = count > 1 ? (stop - start) / static_cast<double>(count - 1) : 0.0;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<double>(i) * step + start);
  if (count > 1) values.back() = stop;
  return values;
}

std::vector<double> spaced_timesteps(const SchedulerConfig& config, int64_t num_steps,
                                     TimestepRounding rounding) {
  const int64_t T = config.num_train_timesteps;
  if (config.timestep_spacing == "leading")
    return leading(num_steps, T / num_steps, config.steps_offset);
  if (config.timestep_spacing == "trailing") return trailing(T, num_steps, T);
  std::vector<double> values = reversed(even_range(0, static_cast<double>(T - 1), num_steps));
  if (rounding == TimestepRounding::kWhole) return rounded(std::move(values));
  for (double& value : values) value = static_cast<double>(static_cast<float>(value));
  return values;
}

std::vector<double> solver_timesteps(const SchedulerConfig& config, int64_t num_steps,
                                     int64_t num_timesteps) {
  if (config.timestep_spacing == "trailing")
    return trailing(config.num_train_timesteps, num_steps, num_timesteps);
  std::vector<double> values;
  if (config.timestep_spacing == "leading") {
    const int64_t stride = num_timesteps / (num_steps + 1);
    if (stride == 0)
      throw ConfigError(fmt::format("{} steps do not fit: {} with leading spacing has at most {}",
                                    num_steps, config.class_name, num_timesteps - 1));
    values = leading(num_steps + 1, stride, config.steps_offset);
  } else {
    values =
        reversed(rounded(even_range(0, static_cast<double>(num_timesteps - 1), num_steps + 1)));
  }
  values.pop_back();
  return values;
}

}  // namespace molar
