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

}  // namespace molar
