/// What built this binary.
#pragma once

#include <string_view>

namespace molar {

std::string_view molar_version();  ///< "0.1.0"
std::string_view git_version();    ///< `git describe` at configure time; empty outside a repository
std::string_view build_date();     ///< of that commit, "2026-11-26"; else when it was configured
std::string_view torch_version();  ///< of the headers that it was compiled with

}  // namespace molar
