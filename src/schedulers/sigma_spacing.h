/// Noise levels between the trained ones, and schedules that are even in something else than time.
#pragma once

#include <optional>
#include <vector>

#include "molar/core/tensor.h"
#include "molar/schedulers/scheduler.h"

namespace molar {

/// sigma as a function of the timestep, read both ways. Arithmetic is double on float32 values, as
/// numpy's.
class TrainingSigmas {
 public:
  explicit TrainingSigmas(const Tensor& alphas_cumprod);

  /// Linear between whole timesteps, constant outside [0, T).
  double at(double timestep) const;
  std::vector<double> at(const std::vector<double>& timesteps) const;
  /// Inverse of at(), linear in log sigma, in [0, T).
  double timestep_of(double sigma) const;
  std::vector<double> timesteps_of(const std::vector<double>& sigmas) const;

  double least() const { return static_cast<double>(sigmas_.front()); }
  double most() const { return static_cast<double>(sigmas_.back()); }
  double log_least() const { return static_cast<double>(log_sigmas_.front()); }
  double log_most() const { return static_cast<double>(log_sigmas_.back()); }

 private:
  std::vector<float> sigmas_, log_sigmas_;  // [T], rising
};

enum class SigmaSpacing {
  kTimesteps,    ///< where the timesteps are
  kKarras,       ///< even in sigma^(1/7); Karras et al. 2022, arXiv:2206.00364, eq. 5
  kExponential,  ///< even in log sigma
  kBeta,         ///< quantiles of Beta(0.6, 0.6); Lee et al. 2024, arXiv:2407.12173
};
/// use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas. Throws FileError where two are set.
SigmaSpacing sigma_spacing_of(const SchedulerConfig& config);

struct SigmaRange {
  double from, to;
};
/// The range that a schedule spans unless the config's sigma_max and sigma_min say otherwise.
SigmaRange sigma_range_of(const SchedulerConfig& config, SigmaRange fallback);

/// num_steps sigmas from range.from down to range.to. spacing: not kTimesteps.
std::vector<double> respaced_sigmas(SigmaSpacing spacing, SigmaRange range, int64_t num_steps);

/// x with I_x(a, b) = probability: the quantile of the Beta distribution. probability: [0, 1]; a,
/// b: above 0.
double beta_quantile(double probability, double a, double b);

/// float32 [N + 1]: `sigmas` and the level after the last step.
Tensor sigma_tensor(const std::vector<double>& sigmas, double final_sigma);

}  // namespace molar
