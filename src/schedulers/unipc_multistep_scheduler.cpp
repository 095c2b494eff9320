/// UniPC: a predictor of order p whose result the next evaluation corrects to order p + 1.
/// Zhao et al. 2023, arXiv:2302.04867, algorithms 5 to 8. Reference: diffusers
/// scheduling_unipc_multistep.py.
///
/// code name -> symbol: h -> h_i (negated where x_0 is predicted), phi -> h phi_1(h) = e^h - 1, b_h
/// -> B(h), ratios -> r_m, weights -> a_m (predictor) or c_m (corrector), differences -> D_m / r_m.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "own_fields.h"
#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

constexpr int64_t kMostOrder =
    10;  // diffusers has no limit; above 3 or 4 float32 has no digits left

SigmaPlan unipc_plan(const SchedulerConfig& config, int64_t num_steps) {
  const TrainingSigmas training(nonzero_alphas_cumprod(config));
  const SigmaSpacing spacing = sigma_spacing_of(config);
  SigmaPlan plan{.timesteps = solver_timesteps(config, num_steps, config.num_train_timesteps),
                 .sigmas = {}};
  std::vector<double> sigmas;
  double least = training.least();
  if (spacing == SigmaSpacing::kTimesteps) {
    sigmas = training.at(plan.timesteps);
  } else {
    sigmas = respaced_sigmas(spacing, sigma_range_of(config, {training.most(), least}), num_steps);
    least = sigmas.back();
    plan.timesteps = training.timesteps_of(sigmas);
    for (double& timestep : plan.timesteps)
      timestep = std::trunc(spacing == SigmaSpacing::kKarras ? std::nearbyint(timestep) : timestep);
  }
  plan.sigmas = sigma_tensor(sigmas, final_sigma_is_zero(config) ? 0.0 : least);
  return plan;
}

/// history: converted model outputs, oldest first, at most solver_order. held_sample: the corrected
/// sample that the last predictor started from.
class UniPCMultistepScheduler final : public SolverScheduler {
 public:
  UniPCMultistepScheduler(const SchedulerConfig& config, const SchedulerOptions& options)
      : SolverScheduler(config, unipc_plan(config, options.num_steps)),
        limits_(config, /*clip_sample_default=*/false) {
    const OwnFields fields(config);
    solver_order_ = static_cast<size_t>(fields.whole("solver_order", 2, 1, kMostOrder));
    // The last three are other classes' solvers; diffusers reads them as bh2.
    bh1_ = fields.word("solver_type", "bh2", {"bh1", "bh2", "midpoint", "heun", "logrho"}) == "bh1";
    predict_x_0_ = fields.flag("predict_x0", true);
    lower_order_final_ = fields.flag("lower_order_final", true);
    disable_corrector_ = fields.whole_list("disable_corrector");
    for (const char* const key : {"use_flow_sigmas", "use_dynamic_shifting"})
      fields.refuse_unless(key, {false});
    for (const char* const key : {"solver_p", "shift_terminal"})
      fields.refuse_unless(key, {nullptr});
    if (!final_sigma_is_zero(config)) return;
    if (!predict_x_0_)
      fields.refuse(
          "predict_x0",
          "is false, which cannot reach final_sigmas_type \"zero\"; that must be \"sigma_min\"");
    if (!lower_order_final_ && solver_order_ > 1)
      fields.refuse("lower_order_final",
                    "is false, which cannot reach final_sigmas_type \"zero\"; that must be "
                    "\"sigma_min\"");
  }

  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw&) const final {
    std::vector<Tensor>& m = state.history;
    const Tensor converted = predict_x_0_ ? limits_.threshold_only(x_0_from(model_output, x, i))
                                          : epsilon_from(model_output, x, i);
    Tensor corrected = x;
    if (state.held_sample.defined() && corrects(i - 1)) {
      const size_t order = order_at(i - 1, m.size());
      corrected =
          transfer({.from = i - 1, .order = order, .next = converted}, state.held_sample, m);
    }
    m.push_back(converted);
    if (m.size() > solver_order_) m.erase(m.begin());
    const Tensor sample =
        transfer({.from = i, .order = order_at(i, m.size()), .next = {}}, corrected, m);
    state.held_sample = corrected;
    ++state.num_evaluations;
    return {.sample = sample, .state = std::move(state)};
  }

 private:
  /// The step from one evaluation to the next one.
  struct Move {
    size_t from;
    size_t order;
    Tensor next;  ///< the model's value at the end: known to the corrector only
  };

  bool corrects(size_t i) const {
    return std::find(disable_corrector_.begin(), disable_corrector_.end(),
                     static_cast<int64_t>(i)) == disable_corrector_.end();
  }

  size_t order_at(size_t i, size_t known) const {
    const size_t wanted =
        lower_order_final_ ? std::min(solver_order_, timesteps().size() - i) : solver_order_;
    return std::min(wanted, known);
  }

  /// x carried over `move`; m: model outputs, the last one at move.from.
  Tensor transfer(const Move& move, const Tensor& x, const std::vector<Tensor>& m) const {
    const Level from = level(move.from), to = level(move.from + 1);
    const Tensor step = to.lambda - from.lambda, h = predict_x_0_ ? -step : step;
    const Tensor phi = h.expm1(), scale = predict_x_0_ ? to.alpha : to.sigma;
    const Tensor& m_0 = m.back();
    const Tensor ratio = predict_x_0_ ? to.sigma / from.sigma : to.alpha / from.alpha;
    const Tensor sample = ratio * x - scale * phi * m_0;

    // 1. Differences to earlier outputs, over their distance in units of the step.
    std::vector<Tensor> ratios, differences;
    for (size_t k = 1; k < move.order; ++k) {
      ratios.push_back((level(move.from - k).lambda - from.lambda) / step);
      differences.push_back((m[m.size() - 1 - k] - m_0) / ratios.back());
    }
    if (move.next.defined()) differences.push_back(move.next - m_0);
    if (differences.empty()) return sample;

    // 2. Their weights, and the sum.
    ratios.push_back(at::ones({}, at::kFloat));
    const Tensor b_h = bh1_ ? h : phi;
    const Tensor weights = solved_weights(h, b_h, ratios, differences.size());
    Tensor sum;
    for (size_t k = 0; k < differences.size(); ++k) {
      const Tensor term = weights[static_cast<int64_t>(k)] * differences[k];
      sum = sum.defined() ? sum + term : term;
    }
    return sample - scale * b_h * sum;
  }

  /// The first `count` equations of R weights = b. count: ratios.size() for the corrector, one less
  /// for the predictor. A single difference takes 1/2, as the paper proposes for order two.
  static Tensor solved_weights(const Tensor& h, const Tensor& b_h,
                               const std::vector<Tensor>& ratios, size_t count) {
    if (count == 1) return at::full({1}, 0.5, at::kFloat);
    const Tensor r = at::stack(ratios).slice(0, 0, static_cast<int64_t>(count));
    std::vector<Tensor> rows, b;
    Tensor phi_k = h.expm1() / h - 1;
    double factorial = 1;
    for (size_t k = 1; k <= count; ++k) {
      rows.push_back(r.pow(static_cast<int64_t>(k - 1)));
      b.push_back(phi_k * factorial / b_h);
      factorial *= static_cast<double>(k + 1);
      phi_k = phi_k / h - 1 / factorial;
    }
    return at::linalg_solve(at::stack(rows), at::stack(b));
  }

  SampleLimits limits_;
  size_t solver_order_ = 2;
  bool bh1_ = false, predict_x_0_ = true, lower_order_final_ = true;
  std::vector<int64_t> disable_corrector_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_unipc_multistep(const SchedulerConfig& config,
                                                      const SchedulerOptions& options) {
  return std::make_unique<UniPCMultistepScheduler>(config, options);
}

}  // namespace molar
