/// Which model a LoRA was made for, as far as its keys, shapes and metadata tell.
#pragma once

#include <map>
#include <string>

#include "molar/io/safetensors.h"

namespace molar {

/// "SD 1.x", "SD 2.x", "SDXL", "Flux", "SD 3", ... or "unknown". Widths count more than metadata.
std::string guess_base_model(const std::map<std::string, SafetensorsEntry>& entries,
                             const std::map<std::string, std::string>& metadata);

}  // namespace molar
