#include "layer_merge.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <utility>

#include "molar/core/parallel_tasks.h"
#include "molar/io/safetensors.h"

namespace molar {

MergedLora merge_layers(const std::vector<MergeInput>& inputs, const MergeOptions& options,
                        const LayerRule& rule) {
  std::map<LayerName, std::vector<LayerTerm>> terms;
  for (const MergeInput& input : inputs)
    for (const auto& [name, layer] : input.weights.layers)
      terms[name].push_back({input.role, &layer, input.strength_of(name)});
  std::vector<SharedLayer> layers;
  int64_t num_shared = 0;
  for (auto& [name, of_layer] : terms) {
    const int64_t number = of_layer.size() > 1 ? num_shared++ : 0;
    layers.push_back({name, number, std::move(of_layer)});
  }

  std::vector<std::pair<LoraLayer, LayerMerge>> results(layers.size());
  parallel_tasks(std::ssize(layers), [&](int64_t i) {
    const SharedLayer& shared = layers[static_cast<size_t>(i)];
    const LayerTerm& first = shared.terms.front();
    MergedLayer layer =
        shared.terms.size() == 1
            ? MergedLayer{{strong_matrices(first)}, {.rule = std::string(role_name(first.role))}}
            : rule(shared);
    results[static_cast<size_t>(i)] = {
        plain_layer(layer.parts, first.layer->weight_shape, options.factors_dtype),
        std::move(layer.how)};
    if (shared.terms.size() == 1) return;  // the result may be a view of the file
    for (const LayerTerm& term : shared.terms)
      for (const Tensor& factor : term.layer->tensors()) release_mapped_pages(factor);
  });

  MergedLora merged;
  for (size_t i = 0; i < layers.size(); ++i) {
    merged.weights.layers.emplace(layers[i].name, std::move(results[i].first));
    merged.layers.emplace(layers[i].name, std::move(results[i].second));
  }
  return merged;
}

const LayerTerm& term_of(const std::vector<LayerTerm>& terms, LoraRole role) {
  return *std::ranges::find(terms, role, &LayerTerm::role);
}

LoraMatrices strong_matrices(const LayerTerm& term) {
  LoraMatrices matrices = term.layer->matrices();
  if (term.strength != 1) matrices.down = matrices.down * term.strength;
  return matrices;
}

LoraMatrices weighed_matrices(const LoraMatrices& matrices, double strength,
                              const Tensor& columns) {
  return {.down = matrices.down * (columns * strength), .up = matrices.up};
}

std::vector<LoraMatrices> strong_parts(const std::vector<LayerTerm>& terms) {
  std::vector<LoraMatrices> parts;
  for (const LayerTerm& term : terms) parts.push_back(strong_matrices(term));
  return parts;
}

}  // namespace molar
