/// DPM-Solver over the model's last two or three values. Reference: diffusers
/// scheduling_dpmsolver_multistep.py.
#include <ATen/ATen.h>

#include <cmath>

#include "dpm_solver.h"
#include "own_fields.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

constexpr size_t kFewSteps = 15;  // below it the last steps may take lower orders

/// Even in log sigma from the noisiest to the cleanest (Lu et al. 2022, section 3.4).
std::vector<double> lu_sigmas(const TrainingSigmas& training, int64_t num_steps) {
  const double most = training.log_most(), least = training.log_least();
  std::vector<double> sigmas = even_range(0, 1, num_steps);
  for (double& value : sigmas) value = std::exp(most + value * (least - most));
  return sigmas;
}

/// Sigmas that are not placed by timestep; their timesteps are whole numbers all the same: rounded
/// for karras and lu unless the betas are the cosine's, else cut.
SigmaPlan respaced_plan(const SchedulerConfig& config, const TrainingSigmas& training,
                        int64_t num_steps, SigmaSpacing spacing) {
  SigmaPlan plan;
  const bool lu =
      spacing != SigmaSpacing::kKarras && OwnFields(config).flag("use_lu_lambdas", false);
  const std::vector<double> sigmas =
      lu ? lu_sigmas(training, num_steps)
         : respaced_sigmas(spacing, sigma_range_of(config, {training.most(), training.least()}),
                           num_steps);
  const bool round =
      (lu || spacing == SigmaSpacing::kKarras) && config.beta_schedule != "squaredcos_cap_v2";
  for (const double timestep : training.timesteps_of(sigmas))
    plan.timesteps.push_back(std::trunc(round ? std::nearbyint(timestep) : timestep));
  plan.sigmas = sigma_tensor(sigmas, final_sigma_is_zero(config) ? 0.0 : training.least());
  return plan;
}

SigmaPlan multistep_plan(const SchedulerConfig& config, int64_t num_steps) {
  const Tensor alphas = nonzero_alphas_cumprod(config);
  const TrainingSigmas training(alphas);
  const SigmaSpacing spacing = sigma_spacing_of(config);
  if (spacing != SigmaSpacing::kTimesteps || OwnFields(config).flag("use_lu_lambdas", false))
    return respaced_plan(config, training, num_steps, spacing);
  const int64_t kept = config.num_train_timesteps - num_clipped_timesteps(config, alphas);
  std::vector<double> timesteps = solver_timesteps(config, num_steps, kept);
  const std::vector<double> sigmas = training.at(timesteps);
  return {.timesteps = std::move(timesteps),
          .sigmas = sigma_tensor(sigmas, final_sigma_is_zero(config) ? 0.0 : training.least())};
}

/// history: converted model outputs, oldest first, at most solver_order.
class DPMSolverMultistepScheduler final : public DpmSolverScheduler {
 public:
  DPMSolverMultistepScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : DpmSolverScheduler(config, read_settings(config),
                           multistep_plan(config, options.num_steps)) {
    const OwnFields fields(config);
    lower_order_final_ = fields.flag("lower_order_final", true) && timesteps().size() < kFewSteps;
    euler_at_final_ = fields.flag("euler_at_final", false);
    if (settings_.algorithm == DpmAlgorithm::kSdeDpmSolver && settings_.solver_order == 3)
      fields.refuse("solver_order",
                    "is 3, which algorithm_type sde-dpmsolver does not have; it must be 1 or 2");
  }

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw& noise) const final {
    std::vector<Tensor>& m = state.history;
    m.push_back(converted(model_output, x, i));
    if (m.size() > static_cast<size_t>(settings_.solver_order)) m.erase(m.begin());
    const Level from = level(i), to = level(i + 1);
    const Update update(settings_, from, to);
    Tensor sample = update.first_order(x, m.back());
    const size_t order = order_at(i, m.size());
    if (order == 2) sample = sample + update.slope() * first_difference(i, m, update.h());
    if (order == 3) sample = sample + third_order_terms(i, m, update);
    if (stochastic()) sample = sample + update.noise() * draw_noise(noise, x);
    ++state.num_evaluations;
    return {.sample = sample, .state = std::move(state)};
  }

 private:
  size_t order_at(size_t i, size_t known) const {
    const size_t left = timesteps().size() - i;
    if (left == 1 && (euler_at_final_ || lower_order_final_ || settings_.final_zero)) return 1;
    if (left == 2 && lower_order_final_) return std::min<size_t>(known, 2);
    return known;
  }

  Tensor first_difference(size_t i, const std::vector<Tensor>& m, const Tensor& h) const {
    const Tensor r = (level(i).lambda - level(i - 1).lambda) / h;
    return r.reciprocal() * (m[m.size() - 1] - m[m.size() - 2]);
  }

  Tensor third_order_terms(size_t i, const std::vector<Tensor>& m, const Update& update) const {
    const Tensor lambda_1 = level(i - 1).lambda;
    const Tensor r0 = (level(i).lambda - lambda_1) / update.h(),
                 r1 = (lambda_1 - level(i - 2).lambda) / update.h();
    const Tensor near = r0.reciprocal() * (m[2] - m[1]), far = r1.reciprocal() * (m[1] - m[0]);
    const Tensor d1 = near + (r0 / (r0 + r1)) * (near - far);
    const Tensor d2 = (r0 + r1).reciprocal() * (near - far);
    return update.exact_slope() * d1 + update.curvature() * d2;
  }

  bool lower_order_final_ = false, euler_at_final_ = false;
};

}  // namespace

std::unique_ptr<const Scheduler> make_dpm_solver_multistep(const SchedulerConfig& config,
                                                           const SchedulerOptions& options) {
  return std::make_unique<DPMSolverMultistepScheduler>(config, options);
}

}  // namespace molar
