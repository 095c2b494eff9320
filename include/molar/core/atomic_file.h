/// Files that appear whole or not at all: temporary file beside the target, fsync, rename.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

namespace molar {

/// What happens when the target exists.
enum class OnExist {
  kNumber,     ///< write name-1.ext, name-2.ext, ... instead
  kSkip,       ///< keep the old file
  kOverwrite,  ///< replace it
  kError,      ///< refuse: ConfigError
};

/// Writes bytes to an open file; passed to `write_file_atomically`.
using ByteSink = std::function<void(std::string_view)>;

/// Calls `write` with a sink for a temporary file in the target's folder, syncs it, and gives it
/// its final name; folders on the way are made. Two processes that race for one name under kNumber
/// get two names (the name is taken with link(2), which fails where it exists). Returns the path
/// that now holds the bytes, or the existing one under kSkip (then `write` is not called). Throws
/// FileError with the system's reason (full disk, read-only folder); the temporary file is removed
/// and an old file is left as it was.
std::filesystem::path write_file_atomically(const std::filesystem::path& target, OnExist on_exist,
                                            const std::function<void(const ByteSink&)>& write);

/// The path `write_file_atomically` would choose now; for plans and for skipping work early.
/// Under kError throws ConfigError where the target exists.
std::filesystem::path resolve_target(const std::filesystem::path& target, OnExist on_exist);

}  // namespace molar
