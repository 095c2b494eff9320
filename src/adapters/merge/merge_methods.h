/// The functions behind the rows of merge_methods(), one file each. Inputs were checked: at least
/// one, finite strengths, one shape per layer.
#pragma once

#include <vector>

#include "molar/adapters/merge/merge_method.h"

namespace molar {

/// delta = sum_i strength_i * delta_i, kept as a sum of the inputs' own factors.
LoraWeights merge_direct(const std::vector<MergeInput>& inputs);

/// The same sum as plain factors: up = [B_1 ... B_n], down = [s_1 A_1; ...; s_n A_n] with s =
/// strength * alpha / rank.
LoraWeights merge_concat(const std::vector<MergeInput>& inputs);

}  // namespace molar
