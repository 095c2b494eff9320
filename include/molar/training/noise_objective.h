/// What a diffusion model learns: to tell the noise that was added to latents (Ho et al. 2020,
/// arXiv:2006.11239, eq. 14; v: Salimans & Ho 2022, arXiv:2202.00512).
#pragma once

#include <optional>

#include "molar/core/tensor.h"
#include "molar/schedulers/scheduler.h"

namespace molar {

/// latents, noise, prediction: [B, C, h, w], float32; timesteps: int64 [B]; all on one device.
class NoiseObjective {
 public:
  /// `config`: the model's own. `min_snr_gamma`: see LoraTrainingOptions.
  NoiseObjective(const SchedulerConfig& config, std::optional<double> min_snr_gamma,
                 at::Device device);

  int64_t num_train_timesteps() const { return alphas_cumprod_.size(0); }
  /// sqrt(a) latents + sqrt(1 - a) noise, a = alphas_cumprod[t].
  Tensor add_noise(const Tensor& latents, const Tensor& noise, const Tensor& timesteps) const;
  /// The mean squared error of each row, times its weight: [B].
  ///   SNR(t) = a / (1 - a); without gamma every weight is 1, with it
  ///   epsilon:      target noise,                            weight min(1, gamma / SNR)
  ///   v_prediction: target sqrt(a) noise - sqrt(1-a) latents, weight min(SNR, gamma) / (SNR + 1)
  ///   sample:       target latents,                          weight min(SNR, gamma)
  Tensor row_losses(const Tensor& prediction, const Tensor& latents, const Tensor& noise,
                    const Tensor& timesteps) const;

 private:
  Tensor alpha(const Tensor& timesteps) const;  // [B, 1, 1, 1]
  Tensor weights(const Tensor& timesteps) const;

  std::string prediction_type_;
  std::optional<double> min_snr_gamma_;
  Tensor alphas_cumprod_;  // [T]
};

}  // namespace molar
