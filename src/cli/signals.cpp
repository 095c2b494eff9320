#include "signals.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <string_view>

namespace molar::cli {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1};

// A signal handler has no other way to reach them.
std::atomic<CancellationToken*> active_token{nullptr};
std::atomic<bool> say_so{true};

void say(std::string_view text) {
  if (say_so.load(std::memory_order_relaxed))
    (void)!::write(STDERR_FILENO, text.data(), text.size());
}

void on_signal(int signal) {
  const int saved_errno = errno;
  CancellationToken* token = active_token.load(std::memory_order_relaxed);
  if (token == nullptr || token->requested()) {
    if (signal != SIGUSR1) ::_exit(128 + signal);
  } else {
    token->request();
    say("\nstopping at the next safe point; signal again to stop at once\n");
  }
  errno = saved_errno;
}

}  // namespace

SignalGuard::SignalGuard(bool quiet) {
  say_so = !quiet;
  active_token = &token_;
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : kSignals) sigaddset(&action.sa_mask, signal);  // one after the other
  for (const int signal : kSignals) ::sigaction(signal, &action, nullptr);
}

SignalGuard::~SignalGuard() {
  for (const int signal : kSignals) ::signal(signal, SIG_DFL);
  active_token = nullptr;
}

}  // namespace molar::cli
