/// Which training timesteps a schedule visits. Source: Lin et al. 2023, arXiv:2305.08891, table 2.
#pragma once

#include <vector>

#include "molar/schedulers/scheduler.h"

namespace molar {

/// `count` values from `start` to `stop`, both included; one value: `start`.
std::vector<double> even_range(double start, double stop, int64_t count);

enum class TimestepRounding {
  kWhole,       ///< ddim, ddpm, pndm
  kFractional,  ///< the sigma family: linspace spacing keeps fractions, in float32
};
/// num_steps timesteps, noisiest first. leading may pass T - 1 by steps_offset.
std::vector<double> spaced_timesteps(const SchedulerConfig& config, int64_t num_steps,
                                     TimestepRounding rounding);

/// The DPM-Solver family's spacing: whole timesteps, as if one more step were taken, and the
/// schedule begins at `num_timesteps` (below T where lambda_min_clipped cuts the noisiest ones
/// off). Throws ConfigError where num_steps does not fit.
std::vector<double> solver_timesteps(const SchedulerConfig& config, int64_t num_steps,
                                     int64_t num_timesteps);

}  // namespace molar
