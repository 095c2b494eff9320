/// Signals: the first asks for a stop at a safe point, the second ends the process at once.
#pragma once

#include "molar/core/cancellation.h"

namespace molar::cli {

/// From now on SIGINT, SIGTERM and SIGUSR1 request a stop and say so on standard error (unless
/// quiet); a second SIGINT or SIGTERM exits with 130 or 143, a second SIGUSR1 changes nothing. The
/// handlers stay until the process ends: a signal that comes while it cleans up must not end it in
/// another way. Returns the token that the first signal sets.
const CancellationToken& handle_signals(bool quiet);

}  // namespace molar::cli
