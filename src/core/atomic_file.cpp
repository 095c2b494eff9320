#include "molar/core/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "molar/core/error.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail(std::string_view action, const fs::path& path) {
  throw FileError(fmt::format("cannot {} '{}': {}", action, path.string(), std::strerror(errno)));
}

/// Removes its file unless it was given its final name.
class TemporaryFile {
 public:
  explicit TemporaryFile(const fs::path& target)
      : path_(target.string() + ".molar-XXXXXX"), descriptor_(::mkstemp(path_.data())) {
    if (descriptor_ < 0) fail("create a file beside", target);
    const mode_t mask = ::umask(0);
    ::umask(mask);
    ::fchmod(descriptor_, 0666 & ~mask);
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail("write", path_);
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }
  void sync_and_close() {
    if (::fsync(descriptor_) != 0) fail("sync", path_);
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    if (closed != 0) fail("close", path_);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_;
};

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) return;  // a folder that may be written but not listed: the rename stands
  ::fsync(descriptor);
  ::close(descriptor);
}

fs::path numbered(const fs::path& target, int number) {
  if (number == 0) return target;
  return target.parent_path() /
         fmt::format("{}-{}{}", target.stem().string(), number, target.extension().string());
}

}  // namespace

fs::path resolve_target(const fs::path& target, OnExist on_exist) {
  if (!fs::exists(fs::symlink_status(target))) return target;
  if (on_exist == OnExist::kError)
    throw ConfigError(fmt::format("'{}' exists; choose another -o, or --on-exist number, skip or overwrite",
                                  target.string()));
  if (on_exist != OnExist::kNumber) return target;
  int number = 1;
  while (fs::exists(fs::symlink_status(numbered(target, number)))) ++number;
  return numbered(target, number);
}

fs::path write_file_atomically(const fs::path& target, OnExist on_exist,
                               const std::function<void(const ByteSink&)>& write) {
  const fs::path first = resolve_target(target, on_exist);
  if (on_exist == OnExist::kSkip && fs::exists(first)) return first;
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw FileError(fmt::format("cannot create folder '{}': {}", folder.string(), error.message()));

  TemporaryFile temporary(target);
  write([&](std::string_view bytes) { temporary.write(bytes); });
  temporary.sync_and_close();

  fs::path final_path = first;
  if (on_exist == OnExist::kOverwrite) {
    if (::rename(temporary.path().c_str(), target.c_str()) != 0) fail("rename to", target);
  } else {
    // link(2) refuses an existing name: nothing is replaced, whoever else writes here.
    while (::link(temporary.path().c_str(), final_path.c_str()) != 0) {
      if (errno != EEXIST) fail("create", final_path);
      if (on_exist == OnExist::kSkip) return final_path;
      final_path = resolve_target(target, on_exist);
    }
  }
  sync_folder(folder);
  return final_path;
}

}  // namespace molar
