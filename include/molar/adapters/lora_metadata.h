/// What a LoRA file that molar writes says about itself, in the words that other tools read:
/// kohya's ss_* and Stability's modelspec.*.
#pragma once

#include <map>
#include <string>

#include "molar/adapters/model_layers.h"

namespace molar {

/// The base model: ss_base_model_version, ss_v2, ss_network_module, modelspec.architecture, ...
std::map<std::string, std::string> family_metadata(ModelFamily family);

}  // namespace molar
