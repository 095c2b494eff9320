#include "layer_merge.h"
#include "merge_methods.h"

namespace molar {

MergedLora merge_concat(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  return merge_layers(inputs, options, [](const SharedLayer& shared) {
    return MergedLayer{strong_parts(shared.terms), {.rule = "sum"}};
  });
}

}  // namespace molar
