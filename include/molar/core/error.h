/// Errors and the exit code each ends with (the table of codes is part of the public interface).
#pragma once

#include <stdexcept>
#include <string>

#include "molar/core/text.h"

namespace molar {

/// What the process returns; scripts and schedulers rely on the numbers.
enum class ExitCode : int {
  kOk = 0,
  kOther = 1,
  kUsage = 2,       ///< command line or configuration
  kInput = 3,       ///< CSV, image or prompt
  kFile = 4,        ///< file missing, corrupt or not what it claims
  kFit = 5,         ///< LoRA, hypernetwork or expert does not fit the model
  kMemory = 6,      ///< out of memory
  kPicture = 7,     ///< NaN or blank picture
  kRowsFailed = 8,  ///< batch: some rows failed
  kNetwork = 9,     ///< judge or network
  kStopped = 75,    ///< stopped at a safe point; run again
};

/// Base of everything molar throws on purpose. The message is one line: what, wanted, found, mend.
/// It may quote what a file holds: control characters are escaped and its length is limited here.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode exit_code = ExitCode::kOther)
      : std::runtime_error(one_line(message, kMaxMessageBytes)), exit_code_(exit_code) {}
  ExitCode exit_code() const noexcept { return exit_code_; }

 private:
  static constexpr size_t kMaxMessageBytes = 2000;
  ExitCode exit_code_;
};

/// One subclass per exit code, so that a throw site says which kind of wrong it found.
template <ExitCode kCode>
class ErrorOf final : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(message, kCode) {}
};

using ConfigError = ErrorOf<ExitCode::kUsage>;
using InputError = ErrorOf<ExitCode::kInput>;
using FileError = ErrorOf<ExitCode::kFile>;
using FitError = ErrorOf<ExitCode::kFit>;
using MemoryError = ErrorOf<ExitCode::kMemory>;
using PictureError = ErrorOf<ExitCode::kPicture>;
using StoppedError = ErrorOf<ExitCode::kStopped>;

}  // namespace molar
