/// What the gates of MoLE's experts did while a picture was sampled, and how that looks.
#pragma once

#include <string>
#include <vector>

#include "molar/core/tensor.h"

namespace molar {

/// One model evaluation, of the prompt's row (guidance's other row is left out).
struct GateStep {
  std::vector<double> global;  ///< one per expert, averaged over all layers; empty: none acted
  /// Local gates, averaged over the layers that work on maps of one size: [E, H, W] each, float32
  /// on the CPU, finest first; empty: none acted.
  std::vector<Tensor> levels;
};

struct GateTrace {
  std::vector<std::string> experts;
  std::vector<GateStep> steps;
};

/// The local gates of one expert in one evaluation over the grey picture, a panel for each level,
/// finest first: blue 0, yellow 1/2, red 1. pixels: uint8 [H, W, 3]. Returns uint8 [H, W', 3].
Tensor heatmap(const Tensor& pixels, const GateStep& step, size_t expert);

/// The global gates over the evaluations, a curve for each expert.
std::string global_gates_svg(const GateTrace& trace);

}  // namespace molar
