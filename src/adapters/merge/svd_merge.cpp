#include <algorithm>

#include "layer_merge.h"
#include "merge_methods.h"

namespace molar {

MergedLora merge_svd(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  return merge_layers(inputs, options, [&](const SharedLayer& shared) {
    int64_t highest = 0;
    for (const LayerTerm& term : shared.terms) highest = std::max(highest, term.layer->rank());
    return MergedLayer{
        {truncated(side_by_side(strong_parts(shared.terms)), options.rank.value_or(highest))},
        {.rule = "approximated sum"}};
  });
}

}  // namespace molar
