/// What the three families of schedulers share. The models see x scaled differently in each:
///   alpha family   x_t = sqrt(alpha) x_0 + sqrt(1 - alpha) noise, at whole training timesteps
///   sigma family   x = x_0 + sigma noise; the model sees x / sqrt(sigma^2 + 1)
///   solver family  x_t as the alpha family's, but at any sigma
#pragma once

#include <utility>
#include <vector>

#include "molar/schedulers/noise_schedule.h"
#include "molar/schedulers/scheduler.h"
#include "sigma_spacing.h"

namespace molar {

enum class PredictionType { kEpsilon, kVPrediction, kSample };
/// Throws FileError where the config's class cannot have it.
PredictionType prediction_type_of(const SchedulerConfig& config);

/// clip_sample and thresholding (Saharia et al. 2022, arXiv:2205.11487, section 2.3) of a predicted
/// x_0.
class SampleLimits {
 public:
  /// clip_sample_default: the constructor's. Throws FileError.
  SampleLimits(const SchedulerConfig& config, bool clip_sample_default);
  Tensor apply(const Tensor& x_0) const;
  Tensor clip_only(const Tensor& x_0) const;       ///< classes without thresholding
  Tensor threshold_only(const Tensor& x_0) const;  ///< classes without clip_sample
  bool thresholding() const { return thresholding_; }

 private:
  bool clip_, thresholding_;
  double clip_range_, ratio_, most_;
};

/// The noise of a stochastic step where x is.
Tensor draw_noise(const NoiseDraw& noise, const Tensor& x);

/// ddim, ddpm, pndm, lcm.
class AlphaScheduler : public Scheduler {
 public:
  const std::vector<double>& timesteps() const final { return timesteps_; }
  double init_noise_sigma() const final { return 1.0; }
  Tensor scale_model_input(const Tensor& x, size_t i) const final;
  Tensor add_noise(const Tensor& x_0, const Tensor& noise, size_t i) const final;
  int64_t order() const final { return 1; }

 protected:
  /// Throws ConfigError where a timestep leaves [0, T), FileError where a step would divide by
  /// zero.
  AlphaScheduler(const SchedulerConfig& config, std::vector<double> timesteps);
  int64_t timestep(size_t i) const;
  /// alphas_cumprod at t; t < 0: the clean sample.
  Tensor alpha(int64_t t) const;
  Tensor predicted_x_0(const Tensor& model_output, const Tensor& x, const Tensor& alpha_t) const;
  void set_final_alpha(bool one);

  SchedulerConfig config_;
  PredictionType prediction_;

 private:
  std::vector<double> timesteps_;
  Tensor alphas_cumprod_;  // float32 [T]
  Tensor final_alpha_;     // float32 []
};

/// A schedule as noise levels: sigmas has one entry more than timesteps (log-linear euler: two).
struct SigmaPlan {
  std::vector<double> timesteps;
  Tensor sigmas;
};

/// lms, euler, euler_a, heun.
class SigmaScheduler : public Scheduler {
 public:
  const std::vector<double>& timesteps() const final { return plan_.timesteps; }
  double init_noise_sigma() const final { return init_noise_sigma_; }
  Tensor scale_model_input(const Tensor& x, size_t i) const final;
  Tensor add_noise(const Tensor& x_0, const Tensor& noise, size_t i) const final;
  int64_t order() const override { return 1; }

 protected:
  SigmaScheduler(const SchedulerConfig& config, SigmaPlan plan);
  Tensor sigma(size_t i) const { return plan_.sigmas[static_cast<int64_t>(i)]; }
  Tensor predicted_x_0(const Tensor& model_output, const Tensor& x, const Tensor& sigma) const;

 private:
  PredictionType prediction_;
  SigmaPlan plan_;
  double init_noise_sigma_;
};

/// dpmpp_2m, dpmpp_sde, unipc.
class SolverScheduler : public Scheduler {
 public:
  const std::vector<double>& timesteps() const final { return plan_.timesteps; }
  double init_noise_sigma() const final { return 1.0; }
  Tensor scale_model_input(const Tensor& x, size_t i) const final;
  Tensor add_noise(const Tensor& x_0, const Tensor& noise, size_t i) const final;
  int64_t order() const final { return 1; }

 protected:
  SolverScheduler(const SchedulerConfig& config, SigmaPlan plan);
  /// One noise level in the three forms that the solvers use.
  struct Level {
    Tensor alpha, sigma;  ///< of x_t = alpha x_0 + sigma noise
    Tensor lambda;        ///< log(alpha / sigma)
  };
  Level level(size_t i) const;
  Tensor x_0_from(const Tensor& model_output, const Tensor& x, size_t i) const;
  Tensor epsilon_from(const Tensor& model_output, const Tensor& x, size_t i) const;

 private:
  PredictionType prediction_;
  SigmaPlan plan_;
};

/// Throws ConfigError where two evaluations would stand at one noise level (a multistep method
/// divides by their distance). The level after the last evaluation may equal the one before it.
void check_levels_differ(const SchedulerConfig& config, const SigmaPlan& plan);

/// The alphas of the classes that keep the last level finite: with zero-SNR rescale it is 2^-24.
Tensor nonzero_alphas_cumprod(const SchedulerConfig& config);

/// final_sigmas_type: "zero" (default) or "sigma_min". True: zero.
bool final_sigma_is_zero(const SchedulerConfig& config);

}  // namespace molar
