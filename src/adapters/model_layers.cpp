#include "molar/adapters/model_layers.h"

#include "molar/models/model_loader.h"

namespace molar {

WeightSource weights_from_checkpoint(const Checkpoint& checkpoint, const ComputeOptions& options) {
  return [&checkpoint, options](const LayerName& name) {
    return load_parameter(checkpoint.component(name.component), name.module + ".weight", options);
  };
}

}  // namespace molar
