/// Ho et al. 2020, arXiv:2006.11239, eq. 6, 7 and 15. Reference: diffusers scheduling_ddpm.py.
#include <ATen/ATen.h>

#include "own_fields.h"
#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

class DDPMScheduler final : public AlphaScheduler {
 public:
  DDPMScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : AlphaScheduler(config,
                       spaced_timesteps(config, options.num_steps, TimestepRounding::kWhole)),
        limits_(config, /*clip_sample_default=*/true),
        variance_type_(OwnFields(config).word("variance_type", "fixed_small",
                                              {"fixed_small", "fixed_small_log", "fixed_large"})) {}

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw& noise) const final {
    const int64_t t = timestep(i);
    const bool last = i + 1 == timesteps().size();
    const Tensor alpha_t = alpha(t), alpha_prev = alpha(last ? -1 : timestep(i + 1));
    const Tensor beta_t = 1.0 - alpha_t, beta_prev = 1.0 - alpha_prev;
    const Tensor step_alpha = alpha_t / alpha_prev, step_beta = 1.0 - step_alpha;
    const Tensor x_0 = limits_.apply(predicted_x_0(model_output, x, alpha_t));
    const Tensor mean =
        alpha_prev.sqrt() * step_beta / beta_t * x_0 + step_alpha.sqrt() * beta_prev / beta_t * x;
    Tensor sample = mean;
    if (t > 0)
      sample =
          mean + deviation(beta_prev / beta_t * step_beta, step_beta) * draw_noise(noise, mean);
    ++state.num_evaluations;
    return {.sample = sample, .state = std::move(state)};
  }

 private:
  Tensor deviation(const Tensor& posterior_variance, const Tensor& step_beta) const {
    if (variance_type_ == "fixed_large") return step_beta.sqrt();
    const Tensor variance = posterior_variance.clamp_min(1e-20);
    return variance_type_ == "fixed_small_log" ? (0.5 * variance.log()).exp() : variance.sqrt();
  }

  SampleLimits limits_;
  std::string variance_type_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_ddpm(const SchedulerConfig& config,
                                           const SchedulerOptions& options) {
  return std::make_unique<DDPMScheduler>(config, options);
}

}  // namespace molar
