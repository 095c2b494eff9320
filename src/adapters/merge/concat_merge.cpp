#include "layer_merge.h"
#include "merge_methods.h"

namespace molar {

MergedLora merge_concat(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  return merge_layers(inputs, options,
                      [](const LayerName& /*name*/, const std::vector<LayerTerm>& terms) {
                        return MergedLayer{summed_matrices(terms), {.rule = "sum"}};
                      });
}

}  // namespace molar
