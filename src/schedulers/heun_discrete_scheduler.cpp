/// Karras et al. 2022, arXiv:2206.00364, algorithm 1 without churn: a trial step, then the mean of
/// the slopes at both ends. Reference: diffusers scheduling_heun_discrete.py.
#include <ATen/ATen.h>

#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

/// Every level but the first is evaluated twice: at the end of one step and at the start of the
/// next.
SigmaPlan heun_plan(const SchedulerConfig& config, int64_t num_steps) {
  const TrainingSigmas training(make_alphas_cumprod(config));
  std::vector<double> timesteps =
      spaced_timesteps(config, num_steps, TimestepRounding::kFractional);
  std::vector<double> sigmas = training.at(timesteps);
  const SigmaSpacing spacing = sigma_spacing_of(config);
  if (spacing != SigmaSpacing::kTimesteps) {
    sigmas = respaced_sigmas(spacing, sigma_range_of(config, {sigmas.front(), sigmas.back()}),
                             num_steps);
    timesteps = training.timesteps_of(sigmas);
  }
  std::vector<double> twice_timesteps, twice_sigmas;
  for (size_t s = 0; s < timesteps.size(); ++s) {
    const size_t times = s == 0 ? 1 : 2;
    twice_timesteps.insert(twice_timesteps.end(), times,
                           static_cast<double>(static_cast<float>(timesteps[s])));
    twice_sigmas.insert(twice_sigmas.end(), times, sigmas[s]);
  }
  return {.timesteps = std::move(twice_timesteps), .sigmas = sigma_tensor(twice_sigmas, 0.0)};
}

/// Between the trial and the second evaluation: history holds the trial's slope, held_sample its
/// start.
class HeunDiscreteScheduler final : public SigmaScheduler {
 public:
  HeunDiscreteScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : SigmaScheduler(config, heun_plan(config, options.num_steps)),
        limits_(config, /*clip_sample_default=*/false) {}

  int64_t order() const final { return 2; }

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw&) const final {
    const Tensor x_0 = limits_.clip_only(predicted_x_0(model_output, x, sigma(i)));
    const Tensor slope = (x - x_0) / sigma(i);
    ++state.num_evaluations;
    if (state.history.empty()) {
      const Tensor sample = x + slope * (sigma(i + 1) - sigma(i));
      state.history.push_back(slope);
      state.held_sample = x;
      return {.sample = sample, .state = std::move(state)};
    }
    const Tensor mean = (state.history.back() + slope) / 2;
    const Tensor sample = state.held_sample + mean * (sigma(i) - sigma(i - 1));
    state.history.clear();
    state.held_sample = Tensor();
    return {.sample = sample, .state = std::move(state)};
  }

 private:
  SampleLimits limits_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_heun_discrete(const SchedulerConfig& config,
                                                    const SchedulerOptions& options) {
  return std::make_unique<HeunDiscreteScheduler>(config, options);
}

}  // namespace molar
