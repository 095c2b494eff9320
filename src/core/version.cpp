#include "molar/core/version.h"

#include <torch/version.h>

namespace molar {

std::string_view molar_version() { return MOLAR_VERSION; }
std::string_view git_version() { return MOLAR_GIT_VERSION; }
std::string_view build_date() { return MOLAR_DATE; }
std::string_view torch_version() { return TORCH_VERSION; }

}  // namespace molar
