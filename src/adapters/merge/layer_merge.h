/// What methods that compute new factors share: which inputs have a layer, and the walk over all.
#pragma once

#include <functional>
#include <vector>

#include "molar/adapters/low_rank.h"
#include "molar/adapters/merge/merge_method.h"

namespace molar {

/// One input's change of the layer at hand.
struct LayerTerm {
  LoraRole role;
  const LoraLayer* layer;
  double strength;
};

/// What a rule makes of a layer that several inputs have: its change, with strengths, and how.
struct MergedLayer {
  LoraMatrices matrices;
  LayerMerge how;
};
using LayerRule = std::function<MergedLayer(const LayerName& name, const std::vector<LayerTerm>&)>;

/// Applies `rule` to every layer that more than one input has; one that a single input has keeps
/// that input's change times its strength. Terms come in the order of the inputs.
MergedLora merge_layers(const std::vector<MergeInput>& inputs, const MergeOptions& options,
                        const LayerRule& rule);

/// The one term of a role that the method's row asks for.
const LayerTerm& term_of(const std::vector<LayerTerm>& terms, LoraRole role);

/// A term's factors with its strength in `down`.
LoraMatrices strong_matrices(const LayerTerm& term);

/// strength * delta of all terms, side by side.
LoraMatrices summed_matrices(const std::vector<LayerTerm>& terms);

}  // namespace molar
