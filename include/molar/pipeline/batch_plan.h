/// In which order a batch draws its pictures, and which of them go side by side.
#pragma once

#include <cstddef>
#include <vector>

#include "molar/pipeline/generation_request.h"

namespace molar {

enum class BatchOrder {
  kShared,  ///< pictures of the same LoRAs, then of the same experts, of the same kind, of the same
            ///< text follow each other; else as in the list
  kList,    ///< as in the list
};

/// Indices into `pictures` (resolved, count 1), every one once. A group's pictures may share calls
/// of the UNet: equal LoRAs, experts, sizes, samplers and steps, from noise, and all with guidance
/// or all without.
std::vector<std::vector<size_t>> plan_batch(const std::vector<GenerationRequest>& pictures,
                                            BatchOrder order);

}  // namespace molar
