#include "temporary_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "molar/core/error.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail(std::string_view action, const fs::path& path) {
  throw FileError(fmt::format("cannot {} '{}': {}", action, path.string(), std::strerror(errno)));
}

std::string descriptor_path(int descriptor) { return fmt::format("/proc/self/fd/{}", descriptor); }

/// A free name beside `target`; `create` makes the file and says whether the name was free.
template <typename Create>
std::string take_name_beside(const fs::path& target, const Create& create) {
  static std::atomic<unsigned> counter{0};
  while (true) {
    std::string name = fmt::format("{}.molar-{}-{}", target.string(), ::getpid(), counter++);
    if (create(name)) return name;
    if (errno != EEXIST) fail("create a file beside", target);
  }
}

}  // namespace

TemporaryFile::TemporaryFile(const fs::path& target) : target_(target) {
  if (!open_unnamed()) open_named();
}

TemporaryFile::TemporaryFile(const fs::path& target, Kind kind) : target_(target) {
  if (kind == Kind::kNamed) {
    open_named();
  } else if (!open_unnamed()) {
    fail("create an unnamed file beside", target_);
  }
}

TemporaryFile::~TemporaryFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!name_.empty()) ::unlink(name_.c_str());
}

bool TemporaryFile::open_unnamed() {
  const fs::path folder = target_.has_parent_path() ? target_.parent_path() : fs::path(".");
  descriptor_ = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  if (descriptor_ < 0) return false;
  // It gets its name through /proc; without that it could never be kept.
  if (::access(descriptor_path(descriptor_).c_str(), F_OK) == 0) return true;
  ::close(descriptor_);
  descriptor_ = -1;
  return false;
}

void TemporaryFile::open_named() {
  name_ = take_name_beside(target_, [this](const std::string& name) {
    descriptor_ = ::open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    return descriptor_ >= 0;
  });
}

void TemporaryFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write", target_);
    bytes.remove_prefix(static_cast<size_t>(written));
    start_writing_back(written);
  }
}

void TemporaryFile::rewrite(int64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write", target_);
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
}

/// The disk works while the rest is still being made, so that less is left to wait for in sync().
void TemporaryFile::start_writing_back(int64_t num_bytes) {
  constexpr int64_t kPortion = int64_t{16} << 20;
  waiting_bytes_ += num_bytes;
  if (waiting_bytes_ < kPortion) return;
  ::sync_file_range(descriptor_, 0, 0, SYNC_FILE_RANGE_WRITE);  // a hint; sync() is what counts
  waiting_bytes_ = 0;
}

void TemporaryFile::sync() {
  if (::fsync(descriptor_) != 0) fail("write", target_);
}

bool TemporaryFile::publish_new(const fs::path& path) {
  const std::string from = name_.empty() ? descriptor_path(descriptor_) : name_;
  // link(2) refuses an existing name: nothing is replaced, whoever else writes here.
  if (::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
  if (errno != EEXIST) fail("create", path);
  return false;
}

void TemporaryFile::publish_over(const fs::path& path) {
  if (name_.empty())
    name_ = take_name_beside(target_, [this](const std::string& name) {
      return ::linkat(AT_FDCWD, descriptor_path(descriptor_).c_str(), AT_FDCWD, name.c_str(),
                      AT_SYMLINK_FOLLOW) == 0;
    });
  if (::rename(name_.c_str(), path.c_str()) != 0) fail("replace", path);
  name_.clear();
}

}  // namespace molar
