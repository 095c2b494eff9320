#include "dpm_solver.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>

#include "own_fields.h"

namespace molar {
namespace {

DpmAlgorithm algorithm_of(const OwnFields& fields) {
  const std::string name =
      fields.word("algorithm_type", "dpmsolver++",
                  {"dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver", "deis"});
  if (name == "dpmsolver") return DpmAlgorithm::kDpmSolver;
  if (name == "sde-dpmsolver") return DpmAlgorithm::kSdeDpmSolver;
  if (name == "sde-dpmsolver++") return DpmAlgorithm::kSdeDpmSolverPlusPlus;
  return DpmAlgorithm::kDpmSolverPlusPlus;  // "deis" comes with a config of DEISMultistepScheduler
}

bool predicts_x_0(DpmAlgorithm algorithm) {
  return algorithm == DpmAlgorithm::kDpmSolverPlusPlus ||
         algorithm == DpmAlgorithm::kSdeDpmSolverPlusPlus;
}

}  // namespace

DpmSolverScheduler::Settings DpmSolverScheduler::read_settings(const SchedulerConfig& config) {
  const OwnFields fields(config);
  const DpmAlgorithm algorithm = algorithm_of(fields);
  // The last three are other classes' solvers; diffusers reads them as midpoint.
  const std::string solver =
      fields.word("solver_type", "midpoint", {"midpoint", "heun", "logrho", "bh1", "bh2"});
  const Settings settings{
      .algorithm = algorithm,
      .solver_type = solver == "heun" ? DpmSolverType::kHeun : DpmSolverType::kMidpoint,
      .solver_order = fields.whole("solver_order", 2, 1, 3),
      .final_zero = final_sigma_is_zero(config)};
  if (!predicts_x_0(algorithm) && settings.final_zero)
    fields.refuse("final_sigmas_type",
                  "is \"zero\", which algorithm_type dpmsolver and sde-dpmsolver cannot reach; "
                  "it must be \"sigma_min\"");
  fields.refuse_unless("use_flow_sigmas", {false});
  fields.refuse_unless("use_dynamic_shifting", {false});
  fields.refuse_unless("variance_type",
                       {"fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"});
  return settings;
}

DpmSolverScheduler::DpmSolverScheduler(const SchedulerConfig& config, const Settings& settings,
                                       SigmaPlan plan)
    : SolverScheduler(config, std::move(plan)),
      settings_(settings),
      limits_(config, /*clip_sample_default=*/false) {}

bool DpmSolverScheduler::stochastic() const {
  return settings_.algorithm == DpmAlgorithm::kSdeDpmSolver ||
         settings_.algorithm == DpmAlgorithm::kSdeDpmSolverPlusPlus;
}

Tensor DpmSolverScheduler::converted(const Tensor& model_output, const Tensor& x, size_t i) const {
  if (predicts_x_0(settings_.algorithm))
    return limits_.threshold_only(x_0_from(model_output, x, i));
  const Tensor epsilon = epsilon_from(model_output, x, i);
  if (!limits_.thresholding()) return epsilon;
  const Level at = level(i);
  const Tensor x_0 = limits_.threshold_only((x - at.sigma * epsilon) / at.alpha);
  return (x - at.alpha * x_0) / at.sigma;
}

DpmSolverScheduler::Update::Update(const Settings& settings, const Level& from, const Level& to)
    : settings_(settings), from_(from), to_(to), h_(to.lambda - from.lambda) {}

Tensor DpmSolverScheduler::Update::first_order(const Tensor& x, const Tensor& d0) const {
  switch (settings_.algorithm) {
    case DpmAlgorithm::kDpmSolverPlusPlus:
      return (to_.sigma / from_.sigma) * x - (to_.alpha * ((-h_).exp() - 1.0)) * d0;
    case DpmAlgorithm::kDpmSolver:
      return (to_.alpha / from_.alpha) * x - (to_.sigma * (h_.exp() - 1.0)) * d0;
    case DpmAlgorithm::kSdeDpmSolverPlusPlus:
      return (to_.sigma / from_.sigma * (-h_).exp()) * x +
             (to_.alpha * (1.0 - (-2.0 * h_).exp())) * d0;
    case DpmAlgorithm::kSdeDpmSolver:
      break;
  }
  return (to_.alpha / from_.alpha) * x - (2.0 * (to_.sigma * (h_.exp() - 1.0))) * d0;
}

Tensor DpmSolverScheduler::Update::slope() const {
  if (settings_.solver_type == DpmSolverType::kHeun) return exact_slope();
  switch (settings_.algorithm) {
    case DpmAlgorithm::kDpmSolverPlusPlus:
      return -0.5 * (to_.alpha * ((-h_).exp() - 1.0));
    case DpmAlgorithm::kDpmSolver:
      return -0.5 * (to_.sigma * (h_.exp() - 1.0));
    case DpmAlgorithm::kSdeDpmSolverPlusPlus:
      return 0.5 * (to_.alpha * (1.0 - (-2.0 * h_).exp()));
    case DpmAlgorithm::kSdeDpmSolver:
      break;
  }
  return -(to_.sigma * (h_.exp() - 1.0));
}

Tensor DpmSolverScheduler::Update::exact_slope() const {
  switch (settings_.algorithm) {
    case DpmAlgorithm::kDpmSolverPlusPlus:
      return to_.alpha * (((-h_).exp() - 1.0) / h_ + 1.0);
    case DpmAlgorithm::kDpmSolver:
      return -(to_.sigma * ((h_.exp() - 1.0) / h_ - 1.0));
    case DpmAlgorithm::kSdeDpmSolverPlusPlus:
      return to_.alpha * ((1.0 - (-2.0 * h_).exp()) / (-2.0 * h_) + 1.0);
    case DpmAlgorithm::kSdeDpmSolver:
      break;
  }
  return -2.0 * (to_.sigma * ((h_.exp() - 1.0) / h_ - 1.0));
}

Tensor DpmSolverScheduler::Update::curvature() const {
  switch (settings_.algorithm) {
    case DpmAlgorithm::kDpmSolverPlusPlus:
      return -(to_.alpha * (((-h_).exp() - 1.0 + h_) / h_.square() - 0.5));
    case DpmAlgorithm::kDpmSolver:
      return -(to_.sigma * ((h_.exp() - 1.0 - h_) / h_.square() - 0.5));
    case DpmAlgorithm::kSdeDpmSolverPlusPlus:
      return to_.alpha * ((1.0 - (-2.0 * h_).exp() - 2.0 * h_) / (2.0 * h_).square() - 0.5);
    case DpmAlgorithm::kSdeDpmSolver:
      break;
  }
  TORCH_CHECK(false, "internal: sde-dpmsolver has no third order");
}

Tensor DpmSolverScheduler::Update::noise() const {
  if (settings_.algorithm == DpmAlgorithm::kSdeDpmSolver)
    return to_.sigma * ((2 * h_).exp() - 1.0).sqrt();
  return to_.sigma * (1.0 - (-2 * h_).exp()).sqrt();
}

int64_t num_clipped_timesteps(const SchedulerConfig& config, const Tensor& alphas_cumprod) {
  const double least = OwnFields(config).number_or_infinity(
      "lambda_min_clipped", -std::numeric_limits<double>::infinity());
  const Tensor lambda = alphas_cumprod.sqrt().log() - (1.0 - alphas_cumprod).sqrt().log();
  const int64_t clipped =
      at::searchsorted(lambda.flip(0).contiguous(), at::Scalar(least)).item<int64_t>();
  if (clipped >= config.num_train_timesteps - 1)
    OwnFields(config).refuse("lambda_min_clipped",
                             fmt::format("is {}, which leaves no timestep", least));
  return clipped;
}

}  // namespace molar
