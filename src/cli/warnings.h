/// Warnings once more, where they will be seen.
#pragma once

#include "molar/core/log.h"

namespace molar::cli {

/// At the end of a long run: how many there were, and which (the first twenty).
void repeat_warnings(const LogSession& log, bool quiet);

}  // namespace molar::cli
