/// Signals: the first asks for a stop at a safe point, the second ends the process at once.
#pragma once

#include "molar/core/cancellation.h"

namespace molar::cli {

/// While it lives, SIGINT, SIGTERM and SIGUSR1 request a stop of its token and say so on standard
/// error (unless quiet); a second SIGINT or SIGTERM exits with 130 or 143. At most one at a time.
class SignalGuard {
 public:
  explicit SignalGuard(bool quiet);
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

  const CancellationToken& token() const { return token_; }

 private:
  CancellationToken token_;
};

}  // namespace molar::cli
