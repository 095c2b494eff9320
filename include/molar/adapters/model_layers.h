/// What adapters see of a model: its adaptable layers by name, and where a layer's own weight is.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "molar/core/device.h"
#include "molar/io/checkpoint.h"
#include "molar/models/layer_hook.h"

namespace molar {

/// The layers of every component that a LoRA may change: "unet", "text_encoder", "text_encoder_2".
/// Modules without weights serve as well: a fit is checked by names and shapes alone.
struct ModelLayers {
  ModelFamily family = ModelFamily::kSd1;
  std::map<std::string, LayerIndex> components;
};

/// One layer of one component. Ordered by component, then by module.
struct LayerName {
  std::string component;  ///< "unet", "text_encoder", "text_encoder_2"
  std::string module;     ///< dotted diffusers name
  auto operator<=>(const LayerName&) const = default;
};

/// Gives back a layer's own weight, equal bit for bit to the one before anything was attached.
using WeightSource = std::function<Tensor(const LayerName&)>;

/// Reads the weight again from the checkpoint's mapped file, as the loader read it. `checkpoint`
/// must outlive the function.
WeightSource weights_from_checkpoint(const Checkpoint& checkpoint, const ComputeOptions& options);

}  // namespace molar
