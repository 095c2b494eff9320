/// Karras et al. 2022, arXiv:2206.00364, algorithm 1 without second-order correction and without
/// churn. Reference: diffusers scheduling_euler_discrete.py.
#include <ATen/ATen.h>

#include "own_fields.h"
#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

/// num_steps + 1 levels even in log sigma, float32 as torch.linspace makes them.
std::vector<double> log_linear_sigmas(const TrainingSigmas& training, int64_t num_steps) {
  const Tensor levels =
      at::linspace(training.log_most(), training.log_least(), num_steps + 1, at::kFloat).exp();
  const Tensor wide = levels.to(at::kDouble);
  return {wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel()};
}

SigmaPlan euler_plan(const SchedulerConfig& config, int64_t num_steps) {
  const OwnFields fields(config);
  const TrainingSigmas training(nonzero_alphas_cumprod(config));
  const bool log_linear =
      fields.word("interpolation_type", "linear", {"linear", "log_linear"}) == "log_linear";
  const bool continuous =
      fields.word("timestep_type", "discrete", {"discrete", "continuous"}) == "continuous";
  std::vector<double> timesteps =
      spaced_timesteps(config, num_steps, TimestepRounding::kFractional);
  std::vector<double> sigmas =
      log_linear ? log_linear_sigmas(training, num_steps) : training.at(timesteps);
  const SigmaSpacing spacing = sigma_spacing_of(config);
  if (spacing != SigmaSpacing::kTimesteps) {
    const SigmaRange range = sigma_range_of(config, {sigmas.front(), sigmas.back()});
    sigmas = respaced_sigmas(spacing, range, num_steps);
    timesteps = training.timesteps_of(sigmas);
  }
  SigmaPlan plan{
      .timesteps = std::move(timesteps),
      .sigmas = sigma_tensor(sigmas, final_sigma_is_zero(config) ? 0.0 : training.least())};
  if (continuous && config.prediction_type == "v_prediction") {  // the model is told log(sigma) / 4
    const Tensor told = (0.25 * plan.sigmas.slice(0, 0, -1).log()).to(at::kDouble);
    plan.timesteps.assign(told.data_ptr<double>(), told.data_ptr<double>() + told.numel());
  }
  for (double& timestep : plan.timesteps)
    timestep = static_cast<double>(static_cast<float>(timestep));
  return plan;
}

class EulerDiscreteScheduler final : public SigmaScheduler {
 public:
  EulerDiscreteScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : SigmaScheduler(config, euler_plan(config, options.num_steps)) {}

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw&) const final {
    const Tensor derivative = (x - predicted_x_0(model_output, x, sigma(i))) / sigma(i);
    ++state.num_evaluations;
    return {.sample = x + derivative * (sigma(i + 1) - sigma(i)), .state = std::move(state)};
  }
};

}  // namespace

std::unique_ptr<const Scheduler> make_euler_discrete(const SchedulerConfig& config,
                                                     const SchedulerOptions& options) {
  return std::make_unique<EulerDiscreteScheduler>(config, options);
}

}  // namespace molar
