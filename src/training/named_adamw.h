/// AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) over parameters that have names, so that its
/// moments can be kept in a checkpoint.
#pragma once

#include <torch/torch.h>

#include <string>
#include <utility>
#include <vector>

#include "molar/io/state_dict.h"

namespace molar {

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.999, weight_decay = 0.01, epsilon = 1e-8;
  double max_grad_norm = 1.0;  ///< over all parameters; 0: no limit
};

using NamedParameters = std::vector<std::pair<std::string, Tensor>>;

class NamedAdamW {
 public:
  /// Leaves that require a gradient; they are updated in place.
  NamedAdamW(const NamedParameters& parameters, const AdamWSettings& settings);

  void zero_grad();
  /// Update number `step` (counted from 1) by the gradients that were summed up; returns their norm
  /// before clipping. Throws PictureError where that or `loss` is not finite.
  double update(int64_t step, double loss, double learning_rate);

  /// "parameter/NAME", "exp_avg/NAME", "exp_avg_sq/NAME", "num_updates/NAME".
  StateDict state() const;
  /// Throws FileError where the state is another training's.
  void restore(const StateDict& state);

 private:
  struct Learnt {
    std::string name;
    Tensor values, exp_avg, exp_avg_sq, num_updates;  // the last: float32 scalar
  };
  std::vector<Learnt> learnt_;
  AdamWSettings settings_;
};

/// A tensor of a checkpoint. Throws FileError where it is missing or of another shape than `like`.
const Tensor& state_tensor(const StateDict& state, const std::string& key, const Tensor& like);

}  // namespace molar
