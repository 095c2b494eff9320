#include "sigma_spacing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "molar/schedulers/noise_schedule.h"
#include "own_fields.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

constexpr double kKarrasRho = 7.0;
constexpr double kBetaShape = 0.6;

/// The continued fraction of the incomplete beta function, by Lentz' method (DLMF 8.17.22).
double beta_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1.0, d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0)), h = d;
  for (int m = 1; m < 300; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1.0 / away_from_zero(1.0 + even * d);
    c = away_from_zero(1.0 + even / c);
    h *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1.0 / away_from_zero(1.0 + odd * d);
    c = away_from_zero(1.0 + odd / c);
    h *= d * c;
    if (std::abs(d * c - 1.0) < 1e-16) break;
  }
  return h;
}

/// Below this x the fraction converges fast; above it I_x(a, b) = 1 - I_{1-x}(b, a) is taken.
double fraction_limit(double a, double b) { return (a + 1) / (a + b + 2); }

/// I_x(a, b) for x up to fraction_limit(a, b).
double regularized_beta(double x, double a, double b) {
  const double log_front =
      std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x);
  return std::exp(log_front) * beta_fraction(x, a, b) / a;
}

/// The quantile where it is at most fraction_limit(a, b).
double lower_beta_quantile(double probability, double a, double b) {
  double low = 0, high = fraction_limit(a, b);
  while (true) {  // bisection to the last bit: the density may have a pole at 0, where Newton
                  // overshoots
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return middle;
    (regularized_beta(middle, a, b) < probability ? low : high) = middle;
  }
}

std::vector<double> karras_sigmas(SigmaRange range, int64_t num_steps) {
  const double low = std::pow(range.to, 1 / kKarrasRho),
               high = std::pow(range.from, 1 / kKarrasRho);
  std::vector<double> sigmas = even_range(0, 1, num_steps);
  for (double& value : sigmas) value = std::pow(high + value * (low - high), kKarrasRho);
  return sigmas;
}

std::vector<double> exponential_sigmas(SigmaRange range, int64_t num_steps) {
  std::vector<double> sigmas = even_range(std::log(range.from), std::log(range.to), num_steps);
  for (double& value : sigmas) value = std::exp(value);
  return sigmas;
}

std::vector<double> beta_sigmas(SigmaRange range, int64_t num_steps) {
  std::vector<double> sigmas = even_range(0, 1, num_steps);
  for (double& value : sigmas)
    value = range.to + beta_quantile(1 - value, kBetaShape, kBetaShape) * (range.from - range.to);
  return sigmas;
}

}  // namespace

TrainingSigmas::TrainingSigmas(const Tensor& alphas_cumprod) {
  const Tensor sigmas = sigmas_from_alphas_cumprod(alphas_cumprod).contiguous();
  sigmas_.assign(sigmas.data_ptr<float>(), sigmas.data_ptr<float>() + sigmas.numel());
  for (const float sigma : sigmas_)  // rounded once, as a float32 logarithm should be
    log_sigmas_.push_back(static_cast<float>(std::log(static_cast<double>(sigma))));
}

double TrainingSigmas::at(double timestep) const {
  if (timestep <= 0) return least();
  const auto last = static_cast<double>(sigmas_.size() - 1);
  if (timestep >= last) return most();
  const auto below = static_cast<size_t>(timestep);
  const auto low = static_cast<double>(sigmas_[below]),
             high = static_cast<double>(sigmas_[below + 1]);
  return (high - low) * (timestep - static_cast<double>(below)) + low;
}

std::vector<double> TrainingSigmas::at(const std::vector<double>& timesteps) const {
  std::vector<double> sigmas;
  for (const double timestep : timesteps) sigmas.push_back(at(timestep));
  return sigmas;
}

double TrainingSigmas::timestep_of(double sigma) const {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  const auto above = std::upper_bound(
      log_sigmas_.begin(), log_sigmas_.end(), log_sigma,
      [](double value, float known) { return value < static_cast<double>(known); });
  const auto found = static_cast<int64_t>(above - log_sigmas_.begin()) - 1;
  const auto below = static_cast<size_t>(
      std::clamp<int64_t>(found, 0, static_cast<int64_t>(log_sigmas_.size()) - 2));
  const float low = log_sigmas_[below], high = log_sigmas_[below + 1];
  const double weight = std::clamp(
      (static_cast<double>(low) - log_sigma) / static_cast<double>(low - high), 0.0, 1.0);
  return (1 - weight) * static_cast<double>(below) + weight * static_cast<double>(below + 1);
}

std::vector<double> TrainingSigmas::timesteps_of(const std::vector<double>& sigmas) const {
  std::vector<double> timesteps;
  for (const double sigma : sigmas) timesteps.push_back(timestep_of(sigma));
  return timesteps;
}

SigmaSpacing sigma_spacing_of(const SchedulerConfig& config) {
  const OwnFields fields(config);
  SigmaSpacing found = SigmaSpacing::kTimesteps;
  for (const auto& [key, spacing] :
       {std::pair{"use_karras_sigmas", SigmaSpacing::kKarras},
        std::pair{"use_exponential_sigmas", SigmaSpacing::kExponential},
        std::pair{"use_beta_sigmas", SigmaSpacing::kBeta}}) {
    if (!fields.flag(key, false)) continue;
    if (found != SigmaSpacing::kTimesteps)
      fields.refuse(
          key,
          "is true beside another of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas; "
          "only one can be");
    found = spacing;
  }
  return found;
}

SigmaRange sigma_range_of(const SchedulerConfig& config, SigmaRange fallback) {
  const OwnFields fields(config);
  const SigmaRange range{fields.optional_positive("sigma_max").value_or(fallback.from),
                         fields.optional_positive("sigma_min").value_or(fallback.to)};
  if (range.to > range.from) fields.refuse("sigma_min", "is above sigma_max");
  return range;
}

std::vector<double> respaced_sigmas(SigmaSpacing spacing, SigmaRange range, int64_t num_steps) {
  switch (spacing) {
    case SigmaSpacing::kKarras:
      return karras_sigmas(range, num_steps);
    case SigmaSpacing::kExponential:
      return exponential_sigmas(range, num_steps);
    case SigmaSpacing::kBeta:
      return beta_sigmas(range, num_steps);
    case SigmaSpacing::kTimesteps:
      break;
  }
  TORCH_CHECK(false, "internal: timestep spacing has no sigmas of its own");
}

double beta_quantile(double probability, double a, double b) {
  if (probability <= 0) return 0;
  if (probability >= 1) return 1;
  return probability <= regularized_beta(fraction_limit(a, b), a, b)
             ? lower_beta_quantile(probability, a, b)
             : 1 - lower_beta_quantile(1 - probability, b, a);
}

Tensor sigma_tensor(const std::vector<double>& sigmas, double final_sigma) {
  std::vector<double> values = sigmas;
  values.push_back(final_sigma);
  return at::tensor(values, at::kDouble).to(at::kFloat);
}

}  // namespace molar
