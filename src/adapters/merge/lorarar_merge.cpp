#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "layer_merge.h"
#include "merge_methods.h"
#include "molar/core/error.h"

namespace molar {
namespace {

bool is_key_or_value(const LayerName& name) {
  return name.component == "unet" &&
         (name.module.ends_with(".to_k") || name.module.ends_with(".to_v"));
}

}  // namespace

void check_lorarar(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  const Hypernetwork& network = *options.hypernetwork;
  const auto& others = inputs[1].weights.layers;
  if (std::ranges::none_of(inputs[0].weights.layers, [&](const auto& entry) {
        return others.contains(entry.first) &&
               network.covers(entry.first, entry.second.weight_shape);
      }))
    throw FitError(
        fmt::format("hypernetwork '{}' is for attention layers of {} outputs; no to_q or "
                    "to_out.0 that both LoRAs have is one; wanted a hypernetwork that "
                    "was trained for this model",
                    network.path().string(), fmt::join(network.widths(), ", ")));
}

MergedLora merge_lorarar(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  const Hypernetwork& network = *options.hypernetwork;
  const KeyValueMode key_value = options.key_value.value_or(network.key_value());
  return merge_layers(inputs, options, [&](const SharedLayer& shared) {
    if (network.covers(shared.name, shared.terms[0].layer->weight_shape)) {
      const LayerTerm& subject = term_of(shared.terms, LoraRole::kSubject);
      const LayerTerm& style = term_of(shared.terms, LoraRole::kStyle);
      const LoraMatrices s = subject.layer->matrices(), t = style.layer->matrices();
      const auto [coefficients, projection] = network.predict(shared.name, s, t);
      LoraMatrices weighed = weighed_matrices(s, subject.strength, coefficients[0]);
      if (projection.defined())
        weighed.down = projected_off(weighed.down, row_space(t.down), projection);
      return MergedLayer{
          {weighed, weighed_matrices(t, style.strength, coefficients[1])},
          {.rule = "predicted", .coefficients = coefficients, .projection = projection}};
    }
    MergedLayer sum{strong_parts(shared.terms), {.rule = "sum"}};
    if (is_key_or_value(shared.name) && key_value == KeyValueMode::kMean) {
      for (LoraMatrices& part : sum.parts) part.down = part.down * 0.5;
      sum.how.rule = "mean";
    }
    return sum;
  });
}

}  // namespace molar
