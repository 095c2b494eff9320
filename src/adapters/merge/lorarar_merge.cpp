#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "layer_merge.h"
#include "merge_methods.h"
#include "molar/core/error.h"

namespace molar {
namespace {

bool is_key_or_value(const LayerName& name) {
  return name.component == "unet" &&
         (name.module.ends_with(".to_k") || name.module.ends_with(".to_v"));
}

LoraMatrices weighed(const LayerTerm& term, const LoraMatrices& own, const Tensor& columns) {
  return {.down = own.down * (term.strength * columns), .up = own.up};
}

}  // namespace

MergedLora merge_lorarar(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  const Hypernetwork& network = *options.hypernetwork;
  const KeyValueMode key_value = options.key_value.value_or(network.key_value());
  int64_t num_predicted = 0;
  MergedLora merged = merge_layers(
      inputs, options, [&](const LayerName& name, const std::vector<LayerTerm>& terms) {
        if (network.covers(name, terms[0].layer->weight_shape)) {
          ++num_predicted;
          const LayerTerm& subject = term_of(terms, LoraRole::kSubject);
          const LayerTerm& style = term_of(terms, LoraRole::kStyle);
          const LoraMatrices s = subject.layer->matrices(), t = style.layer->matrices();
          const Tensor coefficients = network.coefficients(s, t);
          return MergedLayer{side_by_side({weighed(subject, s, coefficients[0]),
                                           weighed(style, t, coefficients[1])}),
                             {.rule = "predicted", .coefficients = coefficients}};
        }
        MergedLayer sum{summed_matrices(terms), {.rule = "sum"}};
        if (is_key_or_value(name) && key_value == KeyValueMode::kMean) {
          sum.matrices.down.mul_(0.5);
          sum.how.rule = "mean";
        }
        return sum;
      });
  if (num_predicted == 0)
    throw FitError(
        fmt::format("hypernetwork '{}' is for attention layers of {} outputs; no to_q or "
                    "to_out.0 that both LoRAs have is one; wanted a hypernetwork that "
                    "was trained for this model",
                    network.path().string(), fmt::join(network.widths(), ", ")));
  return merged;
}

}  // namespace molar
