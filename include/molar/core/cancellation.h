/// Cooperative cancellation: the first signal asks, long loops stop at their next safe point.
#pragma once

#include <atomic>

namespace molar {

/// Set by a signal handler or by another thread; read between sampling steps.
class CancellationToken {
 public:
  /// Safe inside a signal handler.
  void request() noexcept { requested_.store(true, std::memory_order_relaxed); }
  bool requested() const noexcept { return requested_.load(std::memory_order_relaxed); }
  /// Throws StoppedError (exit code 75) once a stop was requested.
  void stop_here_if_requested() const;

 private:
  std::atomic<bool> requested_{false};
  static_assert(std::atomic<bool>::is_always_lock_free,
                "request() must be safe in a signal handler");
};

}  // namespace molar
