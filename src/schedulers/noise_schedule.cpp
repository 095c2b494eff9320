#include "molar/schedulers/noise_schedule.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "molar/core/error.h"
#include "own_fields.h"
#include "scheduler_classes.h"

namespace molar {
namespace {

using AlphaBar = double (*)(double t);

// Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17.
double cosine_alpha_bar(double t) {
  const double c = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
  return c * c;
}
double laplace_alpha_bar(double t) {
  const double lambda =
      -0.5 * std::copysign(1.0, 0.5 - t) * std::log(1 - 2 * std::abs(0.5 - t) + 1e-6);
  const double snr = std::exp(lambda);
  return std::sqrt(snr / (1 + snr));
}
double exp_alpha_bar(double t) { return std::exp(t * -12.0); }

Tensor float_tensor(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).to(at::kFloat);
}

/// betas that discretise alpha_bar over [0, 1], none above 0.999.
Tensor betas_for_alpha_bar(int64_t num_timesteps, AlphaBar alpha_bar) {
  std::vector<double> betas;
  const auto count = static_cast<double>(num_timesteps);
  for (int64_t i = 0; i < num_timesteps; ++i) {
    const double from = static_cast<double>(i) / count, to = static_cast<double>(i + 1) / count;
    betas.push_back(std::min(1 - alpha_bar(to) / alpha_bar(from), 0.999));
  }
  return float_tensor(betas);
}

Tensor linear_betas(const SchedulerConfig& c) {
  return at::linspace(c.beta_start, c.beta_end, c.num_train_timesteps, at::kFloat);
}
Tensor scaled_linear_betas(const SchedulerConfig& c) {
  return at::linspace(std::sqrt(c.beta_start), std::sqrt(c.beta_end), c.num_train_timesteps,
                      at::kFloat)
      .square();
}
Tensor cosine_betas(const SchedulerConfig& c) {
  return betas_for_alpha_bar(c.num_train_timesteps, cosine_alpha_bar);
}
Tensor laplace_betas(const SchedulerConfig& c) {
  return betas_for_alpha_bar(c.num_train_timesteps, laplace_alpha_bar);
}
Tensor exp_betas(const SchedulerConfig& c) {
  return betas_for_alpha_bar(c.num_train_timesteps, exp_alpha_bar);
}
Tensor sigmoid_betas(const SchedulerConfig& c) {
  return at::linspace(-6, 6, c.num_train_timesteps, at::kFloat).sigmoid() *
             (c.beta_end - c.beta_start) +
         c.beta_start;
}

struct BetaSchedule {
  std::string_view name;
  Tensor (*make)(const SchedulerConfig&);
  bool every_class;
};
constexpr BetaSchedule kBetaSchedules[] = {
    {"linear", linear_betas, true},
    {"scaled_linear", scaled_linear_betas, true},
    {"squaredcos_cap_v2", cosine_betas, true},
    {"sigmoid", sigmoid_betas, false},
    {"laplace", laplace_betas, false},
    {"exp", exp_betas, false},
};

Tensor trained_betas(const SchedulerConfig& config) {
  const JsonConfig view(config.raw, source_of(config));
  const auto betas = view.get<std::vector<double>>("trained_betas");
  const auto wanted = static_cast<size_t>(config.num_train_timesteps);
  if (betas.size() != wanted)
    throw FileError(fmt::format("{}: 'trained_betas' has {} values, 'num_train_timesteps' is {}",
                                source_of(config), betas.size(), wanted));
  for (size_t i = 0; i < betas.size(); ++i)
    if (!(betas[i] > 0 && betas[i] < 1))
      throw FileError(fmt::format("{}: 'trained_betas' must be in (0, 1), value {} is {}",
                                  source_of(config), i, betas[i]));
  return float_tensor(betas);
}

bool class_has_schedule(const SchedulerConfig& config, const BetaSchedule& schedule) {
  if (schedule.every_class) return true;
  const SchedulerClass* const row = find_scheduler_class(config.class_name);
  return row != nullptr && row->own_beta_schedule.find(schedule.name) != std::string_view::npos;
}

}  // namespace

Tensor make_betas(const SchedulerConfig& config) {
  if (config.raw.is_object() && config.raw.contains("trained_betas") &&
      !config.raw.at("trained_betas").is_null())
    return trained_betas(config);
  std::string supported;
  for (const BetaSchedule& schedule : kBetaSchedules) {
    if (!class_has_schedule(config, schedule)) continue;
    if (schedule.name == config.beta_schedule) return schedule.make(config);
    supported += fmt::format("{}{}", supported.empty() ? "" : ", ", schedule.name);
  }
  throw FileError(fmt::format("{}: 'beta_schedule' is \"{}\"; {} has {}", source_of(config),
                              config.beta_schedule, config.class_name, supported));
}

Tensor rescale_zero_terminal_snr(const Tensor& betas) {
  Tensor root = (1.0 - betas).cumprod(0).sqrt();
  const Tensor first = root[0].clone(), last = root[-1].clone();
  root = root - last;                      // the last carries no signal
  root = root * (first / (first - last));  // the first keeps its own
  const Tensor alphas_cumprod = root.square();
  const int64_t count = betas.size(0);
  const Tensor alphas = alphas_cumprod.slice(0, 1) / alphas_cumprod.slice(0, 0, count - 1);
  return 1.0 - at::cat({alphas_cumprod.slice(0, 0, 1), alphas});
}

Tensor make_alphas_cumprod(const SchedulerConfig& config) {
  Tensor betas = make_betas(config);
  const SchedulerClass* const row = find_scheduler_class(config.class_name);
  if (config.rescale_betas_zero_snr && row != nullptr && row->has_zero_snr)
    betas = rescale_zero_terminal_snr(betas);
  return (1.0 - betas).cumprod(0);
}

Tensor sigmas_from_alphas_cumprod(const Tensor& alphas_cumprod) {
  return ((1.0 - alphas_cumprod) / alphas_cumprod).sqrt();
}

Tensor add_noise(const Tensor& alphas_cumprod, const Tensor& x_0, const Tensor& noise,
                 int64_t timestep) {
  const Tensor alpha = alphas_cumprod[timestep];
  return alpha.sqrt() * x_0 + (1.0 - alpha).sqrt() * noise;
}

}  // namespace molar
