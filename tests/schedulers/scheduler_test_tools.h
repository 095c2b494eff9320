/// What the scheduler tests share: the elementwise model of make_scheduler_goldens.py, and one run.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "molar/core/random.h"
#include "molar/schedulers/scheduler.h"

namespace molar::test {

inline const std::vector<int64_t> kShape = {2, 4, 3, 5};

inline Tensor ramp(double low, double high) {
  return at::linspace(low, high, 120, at::kFloat).reshape(kShape);
}

/// Elementwise, smooth, different at every timestep and every place.
inline Tensor toy_model(const Tensor& x, double t) {
  const double gain = 0.3 + 0.6 * t / 1000;
  return gain * x / (1 + 0.1 * x.abs()) + ramp(-0.2, 0.3);
}

using Model = std::function<Tensor(const Tensor& x, double t, size_t i)>;

/// What happened at each evaluation.
struct Trace {
  std::vector<Tensor> inputs, samples;
};

/// Runs `scheduler` from evaluation `begin` on sample x.
inline Trace run(const Scheduler& scheduler, Tensor x, size_t begin, const NoiseDraw& noise,
                 const Model& model) {
  Trace trace;
  StepState state;
  for (size_t i = begin; i < scheduler.timesteps().size(); ++i) {
    const Tensor seen = scheduler.scale_model_input(x, i);
    StepResult result =
        scheduler.step(i, model(seen, scheduler.timesteps()[i], i), x, std::move(state), noise);
    x = result.sample;
    state = std::move(result.state);
    trace.inputs.push_back(seen);
    trace.samples.push_back(x);
  }
  return trace;
}

inline NoiseDraw draws_from(RandomSource& source) {
  return [&source](at::IntArrayRef shape) { return source.randn(shape); };
}

/// Stable Diffusion's betas, and `fields` on top.
inline SchedulerConfig sd_config(const std::string& class_name, Json fields = Json::object()) {
  Json json = {{"_class_name", class_name}, {"beta_start", 0.00085},
               {"beta_end", 0.012},         {"beta_schedule", "scaled_linear"},
               {"clip_sample", false},      {"skip_prk_steps", true},
               {"steps_offset", 1}};
  json.update(fields);
  return SchedulerConfig::from_json(json, "scheduler_config.json");
}

}  // namespace molar::test
