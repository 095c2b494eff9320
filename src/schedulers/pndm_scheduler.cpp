/// Liu et al. 2022, arXiv:2202.09778, eq. 9, 12, 13. Reference: diffusers scheduling_pndm.py.
/// skip_prk_steps (all Stable Diffusion models): linear multistep from the start, whose second
/// evaluation repeats a timestep. Otherwise twelve Runge-Kutta evaluations come first.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "molar/core/error.h"
#include "own_fields.h"
#include "scheduler_bases.h"
#include "scheduler_classes.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

constexpr size_t kRungeKuttaSteps = 3;  // of four evaluations each
constexpr size_t kRungeKuttaEvaluations = 12;

std::vector<double> multistep_timesteps(const std::vector<double>& spaced) {
  std::vector<double> timesteps = spaced;
  if (spaced.size() > 1) timesteps.insert(timesteps.begin() + 1, spaced[1]);
  return timesteps;
}

/// Per step: its start, twice the middle, its end; then one evaluation per remaining step.
std::vector<double> runge_kutta_timesteps(const std::vector<double>& spaced, int64_t stride) {
  if (spaced.size() <= kRungeKuttaSteps)
    throw ConfigError(fmt::format(
        "pndm with skip_prk_steps false needs at least 4 steps, {} asked for", spaced.size()));
  const auto half = static_cast<double>(stride / 2);
  std::vector<double> timesteps;
  for (size_t s = 0; s < kRungeKuttaSteps; ++s) {
    const double middle = spaced[s + 1] + half;
    timesteps.insert(timesteps.end(), {spaced[s], middle, middle, spaced[s + 1]});
  }
  timesteps.insert(timesteps.end(), spaced.begin() + kRungeKuttaSteps, spaced.end());
  return timesteps;
}

std::vector<double> pndm_timesteps(const SchedulerConfig& config, int64_t num_steps,
                                   bool skip_prk) {
  const std::vector<double> spaced = spaced_timesteps(config, num_steps, TimestepRounding::kWhole);
  return skip_prk ? multistep_timesteps(spaced)
                  : runge_kutta_timesteps(spaced, config.num_train_timesteps / num_steps);
}

/// history: the last four model outputs, oldest first; inside a Runge-Kutta step one more at the
/// end, the weighted sum so far. held_sample: the sample that the running step began with.
class PNDMScheduler final : public AlphaScheduler {
 public:
  PNDMScheduler(const SchedulerConfig& config, const SchedulerOptions& options, bool skip_prk)
      : AlphaScheduler(config, pndm_timesteps(config, options.num_steps, skip_prk)),
        stride_(config.num_train_timesteps / options.num_steps),
        skip_prk_(skip_prk) {
    set_final_alpha(OwnFields(config).flag("set_alpha_to_one", false));
  }

  /// Which formula an evaluation takes follows its count since the state was empty, not i: img2img,
  /// which starts in the middle, warms up there.
  StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                  const NoiseDraw&) const final {
    const bool runge_kutta =
        !skip_prk_ && state.num_evaluations < static_cast<int64_t>(kRungeKuttaEvaluations);
    StepResult result = runge_kutta ? runge_kutta_step(i, model_output, x, std::move(state))
                                    : multistep_step(i, model_output, x, std::move(state));
    ++result.state.num_evaluations;
    return result;
  }

 private:
  StepResult runge_kutta_step(size_t i, const Tensor& model_output, const Tensor& x,
                              StepState state) const {
    const auto count = static_cast<size_t>(state.num_evaluations);
    const size_t stage = count % 4;
    const int64_t prev = timestep(i) - (stage % 2 == 0 ? stride_ / 2 : 0);
    const int64_t from = timestep(count - stage);
    std::vector<Tensor>& history = state.history;
    Tensor output = model_output;
    if (stage == 0) {
      history.push_back(model_output);
      history.push_back(model_output * (1.0 / 6));
      state.held_sample = x;
    } else if (stage == 3) {
      output = history.back() + model_output * (1.0 / 6);
      history.pop_back();
    } else {
      history.back() = history.back() + model_output * (1.0 / 3);
    }
    const Tensor sample = transfer(state.held_sample, from, prev, output);
    return {.sample = sample, .state = std::move(state)};
  }

  StepResult multistep_step(size_t i, const Tensor& model_output, const Tensor& x,
                            StepState state) const {
    int64_t from = timestep(i), prev = from - stride_;
    std::vector<Tensor>& e = state.history;
    Tensor start = x, output;
    if (state.num_evaluations == 1) {  // the second look at the first step, from where it began
      prev = from;
      from = from + stride_;
      output = (model_output + e.back()) / 2;
      start = state.held_sample;
      state.held_sample = Tensor();
    } else {
      if (e.size() > 3) e.erase(e.begin());
      e.push_back(model_output);
      if (state.num_evaluations == 0) state.held_sample = x;
      output = adams_bashforth(e);
    }
    return {.sample = transfer(start, from, prev, output), .state = std::move(state)};
  }

  static Tensor adams_bashforth(const std::vector<Tensor>& e) {
    const size_t n = e.size();
    switch (n) {
      case 1:
        return e[0];
      case 2:
        return (3 * e[n - 1] - e[n - 2]) / 2;
      case 3:
        return (23 * e[n - 1] - 16 * e[n - 2] + 5 * e[n - 3]) / 12;
      default:
        return (1.0 / 24) * (55 * e[n - 1] - 59 * e[n - 2] + 37 * e[n - 3] - 9 * e[n - 4]);
    }
  }

  /// Eq. 9: x at `from` carried to `prev`.
  Tensor transfer(const Tensor& x, int64_t from, int64_t prev, const Tensor& model_output) const {
    const Tensor alpha_t = alpha(from), alpha_prev = alpha(prev);
    const Tensor beta_t = 1.0 - alpha_t, beta_prev = 1.0 - alpha_prev;
    const Tensor epsilon = prediction_ == PredictionType::kVPrediction
                               ? alpha_t.sqrt() * model_output + beta_t.sqrt() * x
                               : model_output;
    const Tensor denominator = alpha_t * beta_prev.sqrt() + (alpha_t * beta_t * alpha_prev).sqrt();
    return (alpha_prev / alpha_t).sqrt() * x - (alpha_prev - alpha_t) * epsilon / denominator;
  }

  int64_t stride_;
  bool skip_prk_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_pndm(const SchedulerConfig& config,
                                           const SchedulerOptions& options) {
  const bool skip_prk = OwnFields(config).flag("skip_prk_steps", false);
  return std::make_unique<PNDMScheduler>(config, options, skip_prk);
}

}  // namespace molar
