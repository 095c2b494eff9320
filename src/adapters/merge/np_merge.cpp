#include <ATen/ATen.h>

#include "layer_merge.h"
#include "merge_methods.h"

namespace molar {

MergedLora merge_np(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  const double share = options.projection / (1 + options.projection);
  return merge_layers(
      inputs, options, [&](const LayerName& /*name*/, const std::vector<LayerTerm>& terms) {
        const bool subject_first = terms[0].role == LoraRole::kSubject;
        const LayerTerm& style_term = terms[subject_first ? 1 : 0];
        LoraMatrices subject = strong_matrices(terms[subject_first ? 0 : 1]);
        const Tensor basis = row_space(style_term.layer->matrices().down);
        subject.down =
            subject.down - share * at::matmul(at::matmul(subject.down, basis), basis.t());
        return MergedLayer{side_by_side({subject, strong_matrices(style_term)}),
                           {.rule = "projected"}};
      });
}

}  // namespace molar
