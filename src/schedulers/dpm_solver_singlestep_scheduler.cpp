/// DPM-Solver in groups of one to three evaluations that start from one sample. Reference:
/// diffusers scheduling_dpmsolver_singlestep.py.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "dpm_solver.h"
#include "own_fields.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

SigmaPlan singlestep_plan(const SchedulerConfig& config, int64_t num_steps) {
  const Tensor alphas = make_alphas_cumprod(config);
  const TrainingSigmas training(alphas);
  const double final_sigma = final_sigma_is_zero(config) ? 0.0 : training.least();
  const SigmaSpacing spacing = sigma_spacing_of(config);
  SigmaPlan plan;
  std::vector<double> sigmas;
  if (spacing == SigmaSpacing::kTimesteps) {
    SchedulerConfig linspace = config;
    linspace.timestep_spacing = "linspace";  // the class has no timestep_spacing and knows this one
    plan.timesteps = solver_timesteps(
        linspace, num_steps, config.num_train_timesteps - num_clipped_timesteps(config, alphas));
    sigmas = training.at(plan.timesteps);
  } else {
    sigmas = respaced_sigmas(spacing, sigma_range_of(config, {training.most(), training.least()}),
                             num_steps);
    for (const double timestep : training.timesteps_of(sigmas))
      plan.timesteps.push_back(
          std::trunc(spacing == SigmaSpacing::kKarras ? std::nearbyint(timestep) : timestep));
  }
  plan.sigmas = sigma_tensor(sigmas, final_sigma);
  return plan;
}

/// The order of each evaluation: groups 1..solver_order, the rest in shorter groups.
std::vector<size_t> order_list(size_t num_steps, size_t solver_order, bool lower_order_final,
                               bool final_zero) {
  // Whole groups leave no room for a first-order last step, which a clean end needs.
  const bool shorten = lower_order_final || num_steps % solver_order != 0 || final_zero;
  std::vector<size_t> orders;
  for (size_t i = 0; i < num_steps; ++i) orders.push_back(i % solver_order + 1);
  if (!shorten) return orders;
  if (solver_order == 3 && num_steps % 3 == 0) orders[num_steps - 1] = 1;
  if (solver_order == 2 && num_steps % 2 == 0) orders[num_steps - 1] = 1;
  if (final_zero) orders.back() = 1;
  return orders;
}

/// history: converted model outputs, oldest first, at most solver_order. held_sample: where the
/// group began.
class DPMSolverSinglestepScheduler final : public DpmSolverScheduler {
 public:
  DPMSolverSinglestepScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : DpmSolverScheduler(config, read_settings(config),
                           singlestep_plan(config, options.num_steps)) {
    const OwnFields fields(config);
    orders_ = order_list(timesteps().size(), static_cast<size_t>(settings_.solver_order),
                         fields.flag("lower_order_final", false), settings_.final_zero);
    if (settings_.algorithm == DpmAlgorithm::kSdeDpmSolver)
      fields.refuse("algorithm_type",
                    "is \"sde-dpmsolver\", which DPMSolverSinglestepScheduler does not have");
    if (settings_.algorithm == DpmAlgorithm::kDpmSolver && fields.flag("thresholding", false))
      fields.refuse(
          "thresholding",
          "is true, which DPMSolverSinglestepScheduler has for algorithm_type dpmsolver++ "
          "and sde-dpmsolver++ only");
  }

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw& noise) const final {
    std::vector<Tensor>& m = state.history;
    m.push_back(converted(model_output, x, i));
    if (m.size() > static_cast<size_t>(settings_.solver_order)) m.erase(m.begin());
    // Img2img may start inside a group: its first evaluations then have the orders they can have.
    const size_t order = std::min(orders_[i], m.size());
    if (order == 1) state.held_sample = x;
    const Level from = level(i + 1 - order), to = level(i + 1);
    const Update update(settings_, from, to);
    Tensor sample = update.first_order(state.held_sample, m[m.size() - order]);
    if (order == 2) sample = sample + update.slope() * second_order_slope(i, m, update.h());
    if (order == 3) sample = sample + third_order_terms(i, m, update);
    if (stochastic()) sample = sample + update.noise() * draw_noise(noise, x);
    ++state.num_evaluations;
    return {.sample = sample, .state = std::move(state)};
  }

 private:
  Tensor second_order_slope(size_t i, const std::vector<Tensor>& m, const Tensor& h) const {
    const Tensor r = (level(i).lambda - level(i - 1).lambda) / h;
    return r.reciprocal() * (m[m.size() - 1] - m[m.size() - 2]);
  }

  Tensor third_order_terms(size_t i, const std::vector<Tensor>& m, const Update& update) const {
    const Tensor start = level(i - 2).lambda;
    const Tensor r0 = (level(i).lambda - start) / update.h(),
                 r1 = (level(i - 1).lambda - start) / update.h();
    const Tensor near = r1.reciprocal() * (m[1] - m[0]), far = r0.reciprocal() * (m[2] - m[0]);
    if (settings_.solver_type == DpmSolverType::kMidpoint) return update.exact_slope() * far;
    const Tensor d1 = (r0 * near - r1 * far) / (r0 - r1), d2 = 2.0 * (far - near) / (r0 - r1);
    return update.exact_slope() * d1 + update.curvature() * d2;
  }

  std::vector<size_t> orders_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_dpm_solver_singlestep(const SchedulerConfig& config,
                                                            const SchedulerOptions& options) {
  return std::make_unique<DPMSolverSinglestepScheduler>(config, options);
}

}  // namespace molar
