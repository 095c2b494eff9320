#include "scheduler_bases.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "molar/core/error.h"
#include "own_fields.h"
#include "scheduler_classes.h"

namespace molar {

PredictionType prediction_type_of(const SchedulerConfig& config) {
  if (config.prediction_type == "epsilon") return PredictionType::kEpsilon;
  if (config.prediction_type == "v_prediction") return PredictionType::kVPrediction;
  const SchedulerClass* const row = find_scheduler_class(config.class_name);
  const bool has_sample = row != nullptr && row->has_sample_prediction;
  if (config.prediction_type == "sample" && has_sample) return PredictionType::kSample;
  throw FileError(fmt::format(
      "{}: 'prediction_type' is \"{}\"; {} has epsilon, v_prediction{}; choose another --sampler",
      source_of(config), config.prediction_type, config.class_name, has_sample ? ", sample" : ""));
}

SampleLimits::SampleLimits(const SchedulerConfig& config, bool clip_sample_default) {
  const OwnFields fields(config);
  clip_ = fields.flag("clip_sample", clip_sample_default);
  clip_range_ = fields.number("clip_sample_range", 1.0);
  thresholding_ = fields.flag("thresholding", false);
  ratio_ = fields.number("dynamic_thresholding_ratio", 0.995);
  most_ = fields.number("sample_max_value", 1.0);
  if (clip_ && clip_range_ <= 0)
    fields.refuse("clip_sample_range", fmt::format("must be above 0, is {}", clip_range_));
  if (thresholding_ && !(ratio_ >= 0 && ratio_ <= 1))
    fields.refuse("dynamic_thresholding_ratio", fmt::format("must be in [0, 1], is {}", ratio_));
}

Tensor SampleLimits::apply(const Tensor& x_0) const {
  return thresholding_ ? threshold_only(x_0) : clip_only(x_0);
}

Tensor SampleLimits::clip_only(const Tensor& x_0) const {
  return clip_ ? x_0.clamp(-clip_range_, clip_range_) : x_0;
}

Tensor SampleLimits::threshold_only(const Tensor& x_0) const {
  if (!thresholding_) return x_0;
  const Tensor rows = x_0.flatten(1);  // [B, C*H*W]
  const Tensor bound = at::quantile(rows.abs(), ratio_, 1).clamp(1.0, most_).unsqueeze(1);
  return (at::clamp(rows, -bound, bound) / bound).reshape(x_0.sizes());
}

Tensor draw_noise(const NoiseDraw& noise, const Tensor& x) {
  return noise(x.sizes()).to(x.device(), x.scalar_type());
}

AlphaScheduler::AlphaScheduler(const SchedulerConfig& config, std::vector<double> timesteps)
    : config_(config),
      prediction_(prediction_type_of(config)),
      timesteps_(std::move(timesteps)),
      alphas_cumprod_(make_alphas_cumprod(config)),
      final_alpha_(at::ones({}, at::kFloat)) {
  for (size_t i = 0; i < timesteps_.size(); ++i) {
    if (timesteps_[i] < 0 || timesteps_[i] >= static_cast<double>(config.num_train_timesteps))
      throw ConfigError(fmt::format(
          "{} evaluations do not fit: number {} would be at timestep {}, the model has [0, {}); "
          "ask for fewer --steps",
          timesteps_.size(), i, timesteps_[i], config.num_train_timesteps));
    if (prediction_ == PredictionType::kEpsilon && alpha(timestep(i)).item<float>() == 0)
      throw FileError(fmt::format(
          "{}: 'rescale_betas_zero_snr' is true, and at timestep {} a model with prediction_type "
          "epsilon says nothing about the picture; choose euler or another --sampler",
          source_of(config), timesteps_[i]));
  }
}

int64_t AlphaScheduler::timestep(size_t i) const { return std::llround(timesteps_.at(i)); }

Tensor AlphaScheduler::alpha(int64_t t) const { return t < 0 ? final_alpha_ : alphas_cumprod_[t]; }

void AlphaScheduler::set_final_alpha(bool one) {
  if (!one) final_alpha_ = alphas_cumprod_[0];
}

Tensor AlphaScheduler::scale_model_input(const Tensor& x, size_t) const { return x; }

Tensor AlphaScheduler::add_noise(const Tensor& x_0, const Tensor& noise, size_t i) const {
  return molar::add_noise(alphas_cumprod_, x_0, noise, timestep(i));
}

Tensor AlphaScheduler::predicted_x_0(const Tensor& model_output, const Tensor& x,
                                     const Tensor& alpha_t) const {
  const Tensor signal = alpha_t.sqrt(), spread = (1.0 - alpha_t).sqrt();
  switch (prediction_) {
    case PredictionType::kEpsilon:
      return (x - spread * model_output) / signal;
    case PredictionType::kVPrediction:
      return signal * x - spread * model_output;
    case PredictionType::kSample:
      break;
  }
  return model_output;
}

SigmaScheduler::SigmaScheduler(const SchedulerConfig& config, SigmaPlan plan)
    : prediction_(prediction_type_of(config)), plan_(std::move(plan)) {
  const Tensor most = plan_.sigmas.max();
  const bool starts_at_noise = config.timestep_spacing != "leading";
  init_noise_sigma_ = (starts_at_noise ? most : (most.square() + 1).sqrt()).item<double>();
}

Tensor SigmaScheduler::scale_model_input(const Tensor& x, size_t i) const {
  return x / (sigma(i).square() + 1).sqrt();
}

Tensor SigmaScheduler::add_noise(const Tensor& x_0, const Tensor& noise, size_t i) const {
  return x_0 + noise * sigma(i);
}

Tensor SigmaScheduler::predicted_x_0(const Tensor& model_output, const Tensor& x,
                                     const Tensor& sigma) const {
  switch (prediction_) {
    case PredictionType::kEpsilon:
      return x - sigma * model_output;
    case PredictionType::kVPrediction: {
      const Tensor variance = sigma.square() + 1;
      return model_output * (-sigma / variance.sqrt()) + x / variance;
    }
    case PredictionType::kSample:
      break;
  }
  return model_output;
}

SolverScheduler::SolverScheduler(const SchedulerConfig& config, SigmaPlan plan)
    : prediction_(prediction_type_of(config)), plan_(std::move(plan)) {
  check_levels_differ(config, plan_);
}

SolverScheduler::Level SolverScheduler::level(size_t i) const {
  const Tensor ratio = plan_.sigmas[static_cast<int64_t>(i)];
  const Tensor alpha = (ratio.square() + 1).sqrt().reciprocal(), sigma = ratio * alpha;
  return {.alpha = alpha, .sigma = sigma, .lambda = alpha.log() - sigma.log()};
}

Tensor SolverScheduler::scale_model_input(const Tensor& x, size_t) const { return x; }

Tensor SolverScheduler::add_noise(const Tensor& x_0, const Tensor& noise, size_t i) const {
  const Level at = level(i);
  return at.alpha * x_0 + at.sigma * noise;
}

Tensor SolverScheduler::x_0_from(const Tensor& model_output, const Tensor& x, size_t i) const {
  const Level at = level(i);
  switch (prediction_) {
    case PredictionType::kEpsilon:
      return (x - at.sigma * model_output) / at.alpha;
    case PredictionType::kVPrediction:
      return at.alpha * x - at.sigma * model_output;
    case PredictionType::kSample:
      break;
  }
  return model_output;
}

Tensor SolverScheduler::epsilon_from(const Tensor& model_output, const Tensor& x, size_t i) const {
  const Level at = level(i);
  switch (prediction_) {
    case PredictionType::kSample:
      return (x - at.alpha * model_output) / at.sigma;
    case PredictionType::kVPrediction:
      return at.alpha * model_output + at.sigma * x;
    case PredictionType::kEpsilon:
      break;
  }
  return model_output;
}

void check_levels_differ(const SchedulerConfig& config, const SigmaPlan& plan) {
  for (size_t i = 1; i < plan.timesteps.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (plan.sigmas[at].item<float>() < plan.sigmas[at - 1].item<float>()) continue;
    throw ConfigError(fmt::format(
        "{} steps do not fit {}: steps {} and {} would stand at the same noise level; ask for "
        "fewer --steps",
        plan.timesteps.size(), config.class_name, i, i + 1));
  }
}

Tensor nonzero_alphas_cumprod(const SchedulerConfig& config) {
  Tensor alphas = make_alphas_cumprod(config);
  // The smallest positive float16: close to no signal, and sigma stays finite.
  if (alphas[-1].item<float>() == 0) alphas[-1] = std::ldexp(1.0, -24);
  return alphas;
}

bool final_sigma_is_zero(const SchedulerConfig& config) {
  return OwnFields(config).word("final_sigmas_type", "zero", {"zero", "sigma_min"}) == "zero";
}

}  // namespace molar
