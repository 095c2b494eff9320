#include <fmt/format.h>

#include "layer_merge.h"
#include "merge_methods.h"
#include "molar/core/error.h"
#include "molar/io/hash.h"

namespace molar {
namespace {

/// Coefficients are of two files and no others.
void check_parents(const MergeCoefficients& coefficients, const std::vector<MergeInput>& inputs) {
  for (const MergeInput& input : inputs) {
    const bool is_subject = input.role == LoraRole::kSubject;
    const std::string& wanted =
        is_subject ? coefficients.subject_sha256 : coefficients.style_sha256;
    const std::string found =
        input.sha256.empty() ? sha256_safetensors_data(input.weights.path) : input.sha256;
    if (found != wanted)
      throw FitError(
          fmt::format("'{}' was learnt for another {} than '{}': its hash is {}, wanted "
                      "{}",
                      coefficients.path.string(), role_name(input.role),
                      input.weights.path.string(), found, wanted));
  }
}

/// They weigh columns of linear layers that both files have, and no others.
void check_layers(const MergeCoefficients& coefficients, const std::vector<MergeInput>& inputs) {
  for (const auto& [name, values] : coefficients.layers)
    for (const MergeInput& input : inputs) {
      const auto found = input.weights.layers.find(name);
      const bool is_there = found != input.weights.layers.end();
      const std::vector<int64_t> shape =
          is_there ? found->second.weight_shape : std::vector<int64_t>{};
      if (shape.size() == 2 && shape[1] == values.size(1)) continue;
      throw FitError(
          fmt::format("'{}' weighs {} columns of '{}', which is {} in '{}'; wanted a linear layer "
                      "of both files",
                      coefficients.path.string(), values.size(1), name.module,
                      is_there ? shape_string(shape) : "missing", input.weights.path.string()));
    }
}

}  // namespace

void check_ziplora(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  check_parents(*options.coefficients, inputs);
  check_layers(*options.coefficients, inputs);
}

MergedLora merge_ziplora(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  const MergeCoefficients& coefficients = *options.coefficients;
  return merge_layers(inputs, options, [&](const SharedLayer& shared) {
    const auto found = coefficients.layers.find(shared.name);
    if (found == coefficients.layers.end())
      return MergedLayer{strong_parts(shared.terms), {.rule = "sum"}};
    std::vector<LoraMatrices> parts;
    for (const LayerTerm& term : shared.terms)
      parts.push_back(weighed_matrices(term.layer->matrices(), term.strength,
                                       found->second[term.role == LoraRole::kSubject ? 0 : 1]));
    return MergedLayer{std::move(parts), {.rule = "learnt", .coefficients = found->second}};
  });
}

}  // namespace molar
