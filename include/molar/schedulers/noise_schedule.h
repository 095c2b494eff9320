/// The forward process that a model was trained on: betas and what follows from them.
/// Source: Ho et al. 2020, arXiv:2006.11239; Lin et al. 2023, arXiv:2305.08891 (zero terminal SNR).
/// Reference: the constructors of diffusers' schedulers.
#pragma once

#include "molar/core/tensor.h"
#include "molar/schedulers/scheduler.h"

namespace molar {

/// Note [Scalar tensors]
/// Schedules and the coefficients made from them are float32 CPU tensors of no dimension: torch's
/// own float32 arithmetic gives each the bits that diffusers has, and such a scalar combines with a
/// tensor on any device without a copy or a synchronisation.

/// beta_t, float32 [T]. `config.raw.trained_betas` wins over the named schedule.
/// Throws FileError for a schedule that the config's class does not have, or betas that do not fit.
Tensor make_betas(const SchedulerConfig& config);

/// Rescales betas so that the last timestep carries no signal. [T] -> [T].
/// Source: arXiv:2305.08891, algorithm 1.
Tensor rescale_zero_terminal_snr(const Tensor& betas);

/// prod(1 - beta), float32 [T], with rescale_betas_zero_snr applied where the config's class has
/// it.
Tensor make_alphas_cumprod(const SchedulerConfig& config);

/// sqrt((1 - alpha) / alpha) elementwise: the noise level of "x = x_0 + sigma * noise".
Tensor sigmas_from_alphas_cumprod(const Tensor& alphas_cumprod);

/// sqrt(alpha) * x_0 + sqrt(1 - alpha) * noise, alpha = alphas_cumprod[timestep]. [B, C, H, W].
/// timestep: in [0, T).
Tensor add_noise(const Tensor& alphas_cumprod, const Tensor& x_0, const Tensor& noise,
                 int64_t timestep);

}  // namespace molar
