#include <ATen/ATen.h>

#include "layer_merge.h"
#include "merge_methods.h"

namespace molar {

MergedLora merge_np(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  const Tensor share = at::scalar_tensor(options.projection / (1 + options.projection));
  return merge_layers(inputs, options, [&](const SharedLayer& shared) {
    const LayerTerm& style_term = term_of(shared.terms, LoraRole::kStyle);
    LoraMatrices subject = strong_matrices(term_of(shared.terms, LoraRole::kSubject));
    const Tensor basis = row_space(style_term.layer->matrices().down);
    subject.down = projected_off(subject.down, basis, share);
    return MergedLayer{{subject, strong_matrices(style_term)},
                       {.rule = "projected", .projection = share}};
  });
}

}  // namespace molar
