#include "molar/core/failure.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <filesystem>
#include <new>
#include <string_view>

namespace molar {
namespace {

constexpr std::string_view kLessMemory =
    "try --vae-tiling, --dtype bf16 or f16, a smaller size, or a machine with more memory";

Failure describe(const c10::Error& error) {
  const std::string_view message = error.what_without_backtrace();
  const bool no_memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                         message.find("can't allocate memory") != std::string_view::npos;
  const std::string_view first_line = message.substr(0, message.find('\n'));
  if (no_memory)
    return {ExitCode::kMemory, fmt::format("out of memory: {}; {}", first_line, kLessMemory)};
  return {ExitCode::kOther, fmt::format("internal: {}", first_line)};
}

}  // namespace

FileError as_file_error(const std::filesystem::filesystem_error& error) {
  return FileError(
      fmt::format("cannot access '{}': {}", error.path1().string(), error.code().message()));
}

Failure describe_failure(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const c10::Error& error) {
    return describe(error);
  } catch (const std::bad_alloc&) {
    return {ExitCode::kMemory, fmt::format("out of memory; {}", kLessMemory)};
  } catch (const std::filesystem::filesystem_error& error) {
    const FileError ours = as_file_error(error);
    return {ours.exit_code(), ours.what()};
  } catch (const std::exception& error) {
    return {ExitCode::kOther, error.what()};
  }
}

}  // namespace molar
