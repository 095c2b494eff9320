#include <algorithm>

#include "layer_merge.h"
#include "merge_methods.h"

namespace molar {

MergedLora merge_svd(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  return merge_layers(
      inputs, options, [&](const LayerName& /*name*/, const std::vector<LayerTerm>& terms) {
        int64_t highest = 0;
        for (const LayerTerm& term : terms) highest = std::max(highest, term.layer->rank());
        return MergedLayer{truncated(summed_matrices(terms), options.rank.value_or(highest)),
                           {.rule = "approximated sum"}};
      });
}

}  // namespace molar
