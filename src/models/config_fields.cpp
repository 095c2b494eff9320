#include "config_fields.h"

#include <fmt/format.h>

#include "molar/core/error.h"

namespace molar {

void refuse_null(const JsonConfig& config, std::initializer_list<const char*> keys) {
  for (const char* const key : keys) {
    const auto found = config.json().find(key);
    if (found != config.json().end() && found->is_null())
      throw FileError(
          fmt::format("{}: '{}' = null is not supported; wanted a value", config.source(), key));
  }
}

void require_sizes(const std::string& source, std::initializer_list<ConfigSize> sizes) {
  for (const auto& [name, size, largest] : sizes)
    if (size < 1 || size > largest)
      throw FileError(fmt::format("{}: '{}' is {}, wanted 1 to {}", source, name, size, largest));
}

void require_even_heads(const std::string& source, int64_t hidden_size,
                        int64_t num_attention_heads) {
  if (hidden_size % num_attention_heads != 0)
    throw FileError(
        fmt::format("{}: 'hidden_size' {} is not a multiple of 'num_attention_heads' {}", source,
                    hidden_size, num_attention_heads));
}

}  // namespace molar
