/// Where each expert acts: boxes, mask pictures, or where its own gates are high.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "molar/core/tensor.h"
#include "molar/models/unet_2d_condition.h"
#include "molar/pipeline/gate_trace.h"
#include "molar/pipeline/generation_request.h"

namespace molar {

class ExpertRegions {
 public:
  /// Regions of one expert are joined; one without any acts everywhere. `experts`: names, in the
  /// order of the gates. Throws ConfigError: an unknown name, a box that leaves the picture, auto
  /// beside another region of the same expert. Throws InputError: a mask that cannot be read or has
  /// another size than the picture.
  ExpertRegions(const std::vector<ExpertRegion>& regions, std::vector<std::string> experts,
                MapSize picture_px);

  /// No expert is held to a region, now or later.
  bool empty() const { return experts_.empty(); }
  /// Some expert's region is still to be found in the gates.
  bool waits() const;
  /// Finds those in the local gates of one evaluation: the mean over levels, split at Otsu's
  /// threshold (Otsu 1979), grown by one position. Returns the names of experts whose gates are too
  /// alike everywhere to split; these act everywhere.
  std::vector<std::string> find_in(const GateStep& step);
  /// The found ones are to be found anew: another picture.
  void forget_found();

  /// [H * W, E] in [0, 1]: the covered part of each position. All ones where nothing is known yet.
  Tensor tokens(MapSize size) const;

 private:
  struct Region {
    std::string expert;
    bool by_gates = false;
    Tensor mask;         // [H, W], float32; undefined: everywhere
    bool found = false;  // by_gates: looked for
  };
  std::vector<Region> experts_;  // all, in order; empty where none has a region
};

/// The threshold between two classes of values that leaves the least variance within them.
/// values: in [0, 1].
double otsu_threshold(const Tensor& values);

}  // namespace molar
