/// Progress of a long task, told to whoever shows it (the command line, or nobody).
#pragma once

#include <cstdint>
#include <string_view>

namespace molar {

/// Call order: begin -> (describe | advance)* -> end, then again for the next task.
class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  /// A task of `total` equal units starts; `label` is for people ("picture 1/4").
  virtual void begin(std::string_view label, int64_t total) = 0;
  virtual void advance() = 0;
  /// Words about where the task stands ("loss 0.1234"), shown until the next ones. Not every task
  /// has them.
  virtual void describe(std::string_view /*state*/) {}
  virtual void end() = 0;
};

/// Shows nothing.
class NoProgress final : public ProgressSink {
 public:
  void begin(std::string_view, int64_t) override {}
  void advance() override {}
  void end() override {}
};

}  // namespace molar
