/// The manual page, molar(1).
#pragma once

#include <string>

#include "option_tree.h"

namespace molar::cli {

/// roff with the macros of man(7).
std::string man_page(const OptionTree& tree);

}  // namespace molar::cli
