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

/// A layer that several inputs have.
struct SharedLayer {
  LayerName name;
  int64_t number;                ///< its place among all such layers, from 0
  std::vector<LayerTerm> terms;  ///< in the order of the inputs
};

/// What a rule makes of it: its change, with strengths, and how.
struct MergedLayer {
  std::vector<LoraMatrices> parts;  ///< the change is their sum
  LayerMerge how;
};
/// Called from several threads at once.
using LayerRule = std::function<MergedLayer(const SharedLayer& shared)>;

/// Applies `rule` to every layer that more than one input has; one that a single input has keeps
/// that input's change times its strength.
MergedLora merge_layers(const std::vector<MergeInput>& inputs, const MergeOptions& options,
                        const LayerRule& rule);

/// The one term of a role that the method's row asks for.
const LayerTerm& term_of(const std::vector<LayerTerm>& terms, LoraRole role);

/// A term's factors with its strength in `down`.
LoraMatrices strong_matrices(const LayerTerm& term);

/// B A diag(strength * columns): factors of a change, each of whose columns gets a weight. [in]
LoraMatrices weighed_matrices(const LoraMatrices& matrices, double strength, const Tensor& columns);

/// strength * delta of each term.
std::vector<LoraMatrices> strong_parts(const std::vector<LayerTerm>& terms);

}  // namespace molar
