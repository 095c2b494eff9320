/// What the readers of config.json files share.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "molar/io/json_config.h"

namespace molar {

/// Throws FileError where one of `keys` is there and null. Without the key a default stands;
/// diffusers takes null for None, which for these keys is another model or none at all.
void refuse_null(const JsonConfig& config, std::initializer_list<const char*> keys);

/// A size that a config gives and the largest that is believed.
struct ConfigSize {
  const char* name;
  int64_t size, largest;
};
/// Throws FileError for a size that is not in [1, largest].
void require_sizes(const std::string& source, std::initializer_list<ConfigSize> sizes);

/// Throws FileError where a transformer's width cannot be shared evenly among its heads.
void require_even_heads(const std::string& source, int64_t hidden_size,
                        int64_t num_attention_heads);

}  // namespace molar
