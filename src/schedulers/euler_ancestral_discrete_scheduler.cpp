/// Euler to a lower level than asked for, then noise up to it (Katherine Crowson's k-diffusion).
/// Reference: diffusers scheduling_euler_ancestral_discrete.py.
#include <ATen/ATen.h>

#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

SigmaPlan ancestral_plan(const SchedulerConfig& config, int64_t num_steps) {
  const TrainingSigmas training(nonzero_alphas_cumprod(config));
  std::vector<double> timesteps =
      spaced_timesteps(config, num_steps, TimestepRounding::kFractional);
  const std::vector<double> sigmas = training.at(timesteps);
  return {.timesteps = std::move(timesteps), .sigmas = sigma_tensor(sigmas, 0.0)};
}

class EulerAncestralDiscreteScheduler final : public SigmaScheduler {
 public:
  EulerAncestralDiscreteScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : SigmaScheduler(config, ancestral_plan(config, options.num_steps)) {}

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw& noise) const final {
    const Tensor from = sigma(i), to = sigma(i + 1);
    const Tensor up = (to.square() * (from.square() - to.square()) / from.square()).sqrt();
    const Tensor down = (to.square() - up.square()).sqrt();
    const Tensor derivative = (x - predicted_x_0(model_output, x, from)) / from;
    const Tensor sample = x + derivative * (down - from);
    ++state.num_evaluations;
    // The last step draws too, though `up` is zero there: the generator must move on as diffusers'
    // does.
    return {.sample = sample + draw_noise(noise, sample) * up, .state = std::move(state)};
  }
};

}  // namespace

std::unique_ptr<const Scheduler> make_euler_ancestral_discrete(const SchedulerConfig& config,
                                                               const SchedulerOptions& options) {
  return std::make_unique<EulerAncestralDiscreteScheduler>(config, options);
}

}  // namespace molar
