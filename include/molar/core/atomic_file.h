/// Files that appear whole or not at all: temporary file beside the target, fsync, rename.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <utility>

namespace molar {

/// What happens when the target exists.
enum class OnExist {
  kNumber,     ///< write name-1.ext, name-2.ext, ... instead
  kSkip,       ///< keep the old file
  kOverwrite,  ///< replace it
  kError,      ///< refuse: ConfigError
};

class TemporaryFile;

/// Writes bytes to an open file; passed to `write_file_atomically`.
class ByteSink {
 public:
  explicit ByteSink(TemporaryFile& file) : file_(file) {}
  /// Behind what was written before.
  void operator()(std::string_view bytes) const;
  /// In place of what was written `offset` bytes from the start.
  void rewrite(int64_t offset, std::string_view bytes) const;

 private:
  TemporaryFile& file_;
};

/// What a write left behind.
struct WrittenFile {
  std::filesystem::path path;
  bool written = true;  ///< false: kSkip kept the file that was there
};

/// Calls `write` with a sink for a temporary file in the target's folder, syncs it, and gives it
/// its final name; folders on the way are made. Two processes that race for one name under kNumber
/// get two names (the name is taken with link(2), which fails where it exists). Under kSkip `write`
/// is not called where the target exists. Throws FileError with the system's reason (full disk,
/// read-only folder); the temporary file is removed and an old file is left as it was.
WrittenFile write_file_atomically(const std::filesystem::path& target, OnExist on_exist,
                                  const std::function<void(const ByteSink&)>& write);

/// Whether a name is in use: by a file, a folder, or a link, also one to nothing.
bool is_taken(const std::filesystem::path& path);

/// The free ones among name.ext, name-1.ext, name-2.ext, ...: what OnExist::kNumber gives one after
/// the other.
class NumberedNames {
 public:
  explicit NumberedNames(std::filesystem::path target) : target_(std::move(target)) {}
  std::filesystem::path next();

 private:
  std::filesystem::path target_;
  int64_t number_ = 0;  // of the next name to try; 0 is the target itself
};

/// The path `write_file_atomically` would choose now; for plans and for skipping work early.
/// Under kError throws ConfigError where the target exists.
std::filesystem::path resolve_target(const std::filesystem::path& target, OnExist on_exist);

}  // namespace molar
