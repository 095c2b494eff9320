#include "molar/training/noise_objective.h"

#include <torch/torch.h>

#include "molar/schedulers/noise_schedule.h"

namespace molar {

NoiseObjective::NoiseObjective(const SchedulerConfig& config, std::optional<double> min_snr_gamma,
                               at::Device device)
    : prediction_type_(config.prediction_type),
      min_snr_gamma_(min_snr_gamma),
      alphas_cumprod_(make_alphas_cumprod(config).to(device)) {}

Tensor NoiseObjective::alpha(const Tensor& timesteps) const {
  return alphas_cumprod_.index_select(0, timesteps).view({-1, 1, 1, 1});
}

Tensor NoiseObjective::add_noise(const Tensor& latents, const Tensor& noise,
                                 const Tensor& timesteps) const {
  const Tensor a = alpha(timesteps);
  return a.sqrt() * latents + (1.0 - a).sqrt() * noise;
}

Tensor NoiseObjective::weights(const Tensor& timesteps) const {
  const Tensor a = alpha(timesteps).flatten();
  if (!min_snr_gamma_) return torch::ones_like(a);
  const double gamma = *min_snr_gamma_;
  const Tensor snr = a / (1.0 - a);
  if (prediction_type_ == "v_prediction") return snr.clamp_max(gamma) / (snr + 1.0);
  if (prediction_type_ == "sample") return snr.clamp_max(gamma);
  return (gamma / snr).clamp_max(1.0);  // also where the SNR is 0
}

Tensor NoiseObjective::row_losses(const Tensor& prediction, const Tensor& latents,
                                  const Tensor& noise, const Tensor& timesteps) const {
  const Tensor a = alpha(timesteps);
  Tensor target = noise;
  if (prediction_type_ == "v_prediction") target = a.sqrt() * noise - (1.0 - a).sqrt() * latents;
  if (prediction_type_ == "sample") target = latents;
  return (prediction - target).square().mean(at::IntArrayRef{1, 2, 3}) * weights(timesteps);
}

}  // namespace molar
