/// What the readers of config.json files share.
#pragma once

#include <initializer_list>

#include "molar/io/json_config.h"

namespace molar {

/// Throws FileError where one of `keys` is there and null. Without the key a default stands;
/// diffusers takes null for None, which for these keys is another model or none at all.
void refuse_null(const JsonConfig& config, std::initializer_list<const char*> keys);

}  // namespace molar
