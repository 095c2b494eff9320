#include "molar/pipeline/gate_recorder.h"

#include <torch/torch.h>

#include <algorithm>

namespace molar {

void GateRecorder::Sum::add(const Tensor& more) {
  values = count == 0 ? more.clone() : values + more;
  ++count;
}

Tensor GateRecorder::Sum::mean() const {
  return (values / static_cast<double>(count)).to(torch::kCPU);
}

void GateRecorder::observe(const std::string& module, const GateValues& values) {
  const int64_t row = values.global.size(0) - 1;
  global_.add(values.global[row]);
  if (const auto size = token_map_size(config_, module, latents_))
    local_[{size->height, size->width}].add(values.local[row]);
}

GateStep GateRecorder::take() {
  GateStep step;
  if (global_.count > 0) {
    const Tensor global = global_.mean();
    for (int64_t e = 0; e < global.size(0); ++e) step.global.push_back(global[e].item<double>());
  }
  for (const auto& [size, sum] : local_) {
    const auto [height, width] = size;
    step.levels.push_back(sum.mean().t().unflatten(1, {height, width}).contiguous());
  }
  std::ranges::reverse(step.levels);
  local_.clear();
  global_ = {};
  return step;
}

}  // namespace molar
