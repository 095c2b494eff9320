/// Linear multistep over sigma (Katherine Crowson's k-diffusion). Reference: diffusers
/// scheduling_lms_discrete.py.
#include <ATen/ATen.h>

#include <array>

#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

constexpr size_t kOrder = 4;

SigmaPlan lms_plan(const SchedulerConfig& config, int64_t num_steps) {
  const TrainingSigmas training(make_alphas_cumprod(config));
  std::vector<double> timesteps =
      spaced_timesteps(config, num_steps, TimestepRounding::kFractional);
  std::vector<double> sigmas = training.at(timesteps);
  const SigmaSpacing spacing = sigma_spacing_of(config);
  if (spacing != SigmaSpacing::kTimesteps) {
    const SigmaRange own{sigmas.front(), sigmas.back()};
    // diffusers' LMS reads sigma_min and sigma_max for every spacing but this one.
    const SigmaRange range = spacing == SigmaSpacing::kKarras ? own : sigma_range_of(config, own);
    sigmas = respaced_sigmas(spacing, range, num_steps);
    timesteps = training.timesteps_of(sigmas);
    for (double& timestep : timesteps) timestep = static_cast<double>(static_cast<float>(timestep));
  }
  SigmaPlan plan{.timesteps = std::move(timesteps), .sigmas = sigma_tensor(sigmas, 0.0)};
  check_levels_differ(config, plan);
  return plan;
}

/// Coefficients of a polynomial, lowest power first.
using Polynomial = std::vector<double>;

/// p(x) * (x - root).
Polynomial times_linear(const Polynomial& p, double root) {
  Polynomial product(p.size() + 1, 0.0);
  for (size_t k = 0; k < p.size(); ++k) {
    product[k + 1] += p[k];
    product[k] -= p[k] * root;
  }
  return product;
}

/// The integral of p from `from` to `to`.
double integral(const Polynomial& p, double from, double to) {
  double at_from = 0, at_to = 0;
  for (size_t k = p.size(); k-- > 0;) {
    const double c = p[k] / static_cast<double>(k + 1);
    at_from = (at_from + c) * from;
    at_to = (at_to + c) * to;
  }
  return at_to - at_from;
}

/// history: derivatives, oldest first, at most kOrder.
class LMSDiscreteScheduler final : public SigmaScheduler {
 public:
  LMSDiscreteScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : SigmaScheduler(config, lms_plan(config, options.num_steps)) {}

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw&) const final {
    std::vector<Tensor>& derivatives = state.history;
    derivatives.push_back((x - predicted_x_0(model_output, x, sigma(i))) / sigma(i));
    if (derivatives.size() > kOrder) derivatives.erase(derivatives.begin());
    // The order follows the place in the schedule. Started in the middle (img2img) there are fewer
    // derivatives than the order asks for, and the missing ones are left out: diffusers does so.
    const size_t order = std::min(i + 1, kOrder);
    Tensor change;
    for (size_t k = 0; k < std::min(order, derivatives.size()); ++k) {
      const Tensor term = coefficient(i, order, k) * derivatives[derivatives.size() - 1 - k];
      change = change.defined() ? change + term : term;
    }
    ++state.num_evaluations;
    return {.sample = x + change, .state = std::move(state)};
  }

 private:
  /// The integral over the step of the Lagrange polynomial that is 1 at sigma(i - k) and 0 at the
  /// other nodes. Differs from reference: exact, where diffusers integrates numerically to 1e-4.
  /// The polynomial is written about sigma(i), so that its powers stay of the size of the step.
  double coefficient(size_t i, size_t order, size_t k) const {
    const auto node = [&](size_t j) {
      return sigma(i - j).item<double>() - sigma(i).item<double>();
    };
    Polynomial lagrange{1.0};
    double scale = 1.0;
    for (size_t j = 0; j < order; ++j) {
      if (j == k) continue;
      lagrange = times_linear(lagrange, node(j));
      scale *= node(k) - node(j);
    }
    return integral(lagrange, 0.0, sigma(i + 1).item<double>() - sigma(i).item<double>()) / scale;
  }
};

}  // namespace

std::unique_ptr<const Scheduler> make_lms_discrete(const SchedulerConfig& config,
                                                   const SchedulerOptions& options) {
  return std::make_unique<LMSDiscreteScheduler>(config, options);
}

}  // namespace molar
