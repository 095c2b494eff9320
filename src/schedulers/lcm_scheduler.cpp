/// Latent consistency models: every evaluation predicts the clean sample, and noise leads back to
/// the next level. Luo et al. 2023, arXiv:2310.04378. Reference: diffusers scheduling_lcm.py.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "molar/core/error.h"
#include "own_fields.h"
#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

constexpr double kSigmaData = 0.5;

/// num_steps of the original_inference_steps timesteps that the model was distilled at.
std::vector<double> lcm_timesteps(const SchedulerConfig& config, int64_t num_steps) {
  const int64_t original =
      OwnFields(config).whole("original_inference_steps", 50, 1, config.num_train_timesteps);
  if (num_steps > original)
    throw ConfigError(fmt::format(
        "lcm has at most {} steps (original_inference_steps), {} asked for", original, num_steps));
  const int64_t stride = config.num_train_timesteps / original;
  std::vector<double> timesteps;
  const double spacing = static_cast<double>(original) / static_cast<double>(num_steps);
  for (int64_t i = 0; i < num_steps; ++i) {
    const auto index = static_cast<int64_t>(std::floor(static_cast<double>(i) * spacing));
    timesteps.push_back(static_cast<double>((original - index) * stride - 1));
  }
  return timesteps;
}

class LCMScheduler final : public AlphaScheduler {
 public:
  LCMScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : AlphaScheduler(config, lcm_timesteps(config, options.num_steps)),
        timestep_scaling_(OwnFields(config).number("timestep_scaling", 10.0)),
        limits_(config, /*clip_sample_default=*/false) {}

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw& noise) const final {
    const int64_t t = timestep(i);
    const Tensor x_0 = limits_.apply(predicted_x_0(model_output, x, alpha(t)));
    // c_skip and c_out of eq. 9: the function is the identity at t = 0.
    const Tensor scaled = at::scalar_tensor(static_cast<double>(t), at::kFloat) * timestep_scaling_;
    const Tensor square = scaled.square() + kSigmaData * kSigmaData;
    const Tensor denoised = scaled / square.sqrt() * x_0 + kSigmaData * kSigmaData / square * x;
    ++state.num_evaluations;
    if (i + 1 == timesteps().size()) return {.sample = denoised, .state = std::move(state)};
    const Tensor alpha_prev = alpha(timestep(i + 1));
    const Tensor sample =
        alpha_prev.sqrt() * denoised + (1.0 - alpha_prev).sqrt() * draw_noise(noise, denoised);
    return {.sample = sample, .state = std::move(state)};
  }

 private:
  double timestep_scaling_;
  SampleLimits limits_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_lcm(const SchedulerConfig& config,
                                          const SchedulerOptions& options) {
  return std::make_unique<LCMScheduler>(config, options);
}

}  // namespace molar
