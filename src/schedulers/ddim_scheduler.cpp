/// Song et al. 2020, arXiv:2010.02502, eq. 12 and 16. Reference: diffusers scheduling_ddim.py.
#include <ATen/ATen.h>

#include "own_fields.h"
#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

class DDIMScheduler final : public AlphaScheduler {
 public:
  DDIMScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : AlphaScheduler(config,
                       spaced_timesteps(config, options.num_steps, TimestepRounding::kWhole)),
        stride_(config.num_train_timesteps / options.num_steps),
        eta_(options.eta),
        limits_(config, /*clip_sample_default=*/true) {
    set_final_alpha(OwnFields(config).flag("set_alpha_to_one", true));
  }

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw& noise) const final {
    const int64_t t = timestep(i);
    const Tensor alpha_t = alpha(t), alpha_prev = alpha(t - stride_);
    const Tensor x_0 = limits_.apply(predicted_x_0(model_output, x, alpha_t));
    const Tensor variance = (1.0 - alpha_prev) / (1.0 - alpha_t) * (1.0 - alpha_t / alpha_prev);
    const Tensor deviation = eta_ * variance.sqrt();
    const Tensor direction =
        (1.0 - alpha_prev - deviation.square()).sqrt() * epsilon(model_output, x, alpha_t);
    Tensor sample = alpha_prev.sqrt() * x_0 + direction;
    if (eta_ > 0) sample = sample + deviation * draw_noise(noise, sample);
    ++state.num_evaluations;
    return {.sample = sample, .state = std::move(state)};
  }

 private:
  /// From the model's own output: clipping x_0 does not change it.
  Tensor epsilon(const Tensor& model_output, const Tensor& x, const Tensor& alpha_t) const {
    const Tensor signal = alpha_t.sqrt(), spread = (1.0 - alpha_t).sqrt();
    switch (prediction_) {
      case PredictionType::kVPrediction:
        return signal * model_output + spread * x;
      case PredictionType::kSample:
        return (x - signal * model_output) / spread;
      case PredictionType::kEpsilon:
        break;
    }
    return model_output;
  }

  int64_t stride_;
  double eta_;
  SampleLimits limits_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_ddim(const SchedulerConfig& config,
                                           const SchedulerOptions& options) {
  return std::make_unique<DDIMScheduler>(config, options);
}

}  // namespace molar
