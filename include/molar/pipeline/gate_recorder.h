/// Sums up what the gates of MoLE's experts do in one call of the UNet.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "molar/adapters/mole/expert_layer.h"
#include "molar/models/unet_2d_condition.h"
#include "molar/pipeline/gate_trace.h"

namespace molar {

/// Call order: ((observe)* -> take)*.
class GateRecorder {
 public:
  GateRecorder(UNet2DConditionConfig config, MapSize latents)
      : config_(std::move(config)), latents_(latents) {}
  /// A GateObserver.
  void observe(const std::string& module, const GateValues& values);
  /// The means so far; begins anew.
  GateStep take();

 private:
  struct Sum {
    Tensor values;
    int64_t count = 0;
    void add(const Tensor& more);
    Tensor mean() const;
  };
  UNet2DConditionConfig config_;
  MapSize latents_;
  std::map<std::pair<int64_t, int64_t>, Sum> local_;  // by height and width; [n, E]
  Sum global_;                                        // [E]
};

}  // namespace molar
