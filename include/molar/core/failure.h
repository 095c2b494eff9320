/// Any exception as the line and the exit code that it ends in.
#pragma once

#include <exception>
#include <filesystem>
#include <string>

#include "molar/core/error.h"

namespace molar {

struct Failure {
  ExitCode exit_code = ExitCode::kOther;
  std::string message;
};

/// What <filesystem> throws (a loop of links, a name that is too long, a folder that may not be
/// entered), as one of our lines. Whoever ends an operation on files of the user's choice calls it.
FileError as_file_error(const std::filesystem::filesystem_error& error);

/// Of ours, of libtorch's (which has one exception for a full machine and for its own bugs), of
/// <filesystem>'s, of the rest.
Failure describe_failure(const std::exception_ptr& exception);

}  // namespace molar
