#include "layer_merge.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <utility>

namespace molar {

MergedLora merge_layers(const std::vector<MergeInput>& inputs, const MergeOptions& options,
                        const LayerRule& rule) {
  std::map<LayerName, std::vector<LayerTerm>> terms;
  for (const MergeInput& input : inputs)
    for (const auto& [name, layer] : input.weights.layers)
      terms[name].push_back({input.role, &layer, input.strength});
  MergedLora merged;
  for (const auto& [name, of_layer] : terms) {
    MergedLayer layer = of_layer.size() == 1
                            ? MergedLayer{strong_matrices(of_layer.front()),
                                          {.rule = std::string(role_name(of_layer.front().role))}}
                            : rule(name, of_layer);
    merged.weights.layers.emplace(
        name,
        plain_layer(layer.matrices, of_layer.front().layer->weight_shape, options.factors_dtype));
    merged.layers.emplace(name, std::move(layer.how));
  }
  return merged;
}

const LayerTerm& term_of(const std::vector<LayerTerm>& terms, LoraRole role) {
  return *std::ranges::find(terms, role, &LayerTerm::role);
}

LoraMatrices strong_matrices(const LayerTerm& term) {
  LoraMatrices matrices = term.layer->matrices();
  matrices.down = matrices.down * term.strength;
  return matrices;
}

LoraMatrices summed_matrices(const std::vector<LayerTerm>& terms) {
  std::vector<LoraMatrices> parts;
  for (const LayerTerm& term : terms) parts.push_back(strong_matrices(term));
  return side_by_side(parts);
}

}  // namespace molar
