/// Any exception as the line and the exit code that it ends in.
#pragma once

#include <exception>
#include <string>

#include "molar/core/error.h"

namespace molar {

struct Failure {
  ExitCode exit_code = ExitCode::kOther;
  std::string message;
};

/// Of ours, of libtorch's (which has one exception for a full machine and for its own bugs), of
/// <filesystem>'s, of the rest.
Failure describe_failure(const std::exception_ptr& exception);

}  // namespace molar
