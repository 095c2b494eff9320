/// Logging goes to standard error through spdlog; standard output carries results only.
/// Library code calls spdlog::info / debug / warn; only the program sets it up.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace molar {

enum class Verbosity { kQuiet, kNormal, kVerbose };

/// Installs the standard-error sink for its lifetime and keeps every warning, so that they can be
/// counted and repeated at the end of a run.
class LogSession {
 public:
  explicit LogSession(Verbosity verbosity);
  ~LogSession();
  LogSession(const LogSession&) = delete;
  LogSession& operator=(const LogSession&) = delete;

  /// Every warning so far, oldest first.
  std::vector<std::string> warnings() const;

 private:
  class WarningSink;
  std::shared_ptr<WarningSink> warning_sink_;
};

}  // namespace molar
