#include "signals.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <string_view>

namespace molar::cli {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1};
constexpr std::string_view kStopping =
    "\nstopping at the next safe point; signal again to stop at once\n";

// A signal handler has no other way to reach them.
CancellationToken stop_token;
std::atomic<bool> say_so{true};

void on_signal(int signal) {
  const int saved_errno = errno;
  if (!stop_token.requested()) {
    stop_token.request();
    if (say_so.load(std::memory_order_relaxed))
      (void)!::write(STDERR_FILENO, kStopping.data(), kStopping.size());
  } else if (signal != SIGUSR1) {
    ::_exit(128 + signal);
  }
  errno = saved_errno;
}

}  // namespace

const CancellationToken& handle_signals(bool quiet) {
  say_so = !quiet;
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : kSignals) sigaddset(&action.sa_mask, signal);  // one after the other
  for (const int signal : kSignals) ::sigaction(signal, &action, nullptr);
  return stop_token;
}

}  // namespace molar::cli
