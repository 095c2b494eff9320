#include "molar/io/line_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "molar/core/atomic_file.h"
#include "molar/core/error.h"
#include "molar/io/file.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxBytes = 1ULL << 30;

}  // namespace

void LineJournal::fail(std::string_view action) const {
  throw FileError(fmt::format("cannot {} '{}': {}", action, path_.string(), std::strerror(errno)));
}

LineJournal::LineJournal(const fs::path& path) : path_(path) {
  std::error_code error;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  if (error)
    throw FileError(
        fmt::format("cannot create folder '{}': {}", path.parent_path().string(), error.message()));
  do open();
  while (was_replaced());
}

LineJournal::~LineJournal() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void LineJournal::open() {
  if (descriptor_ >= 0) ::close(descriptor_);
  // O_NONBLOCK: opening a pipe must not wait; it changes nothing for regular files.
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
  if (descriptor_ < 0) fail("open");
  // Another process could append between our reading and our cutting. A file system without
  // locks is used without.
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    descriptor_ = -1;
    throw FileError(fmt::format("'{}' is in use by another run; wait for it, or name another one",
                                path_.string()));
  }
}

/// By close_with of the process that had it until now: then this is no file of that name any more.
bool LineJournal::was_replaced() const {
  struct stat ours{}, named{};
  if (::fstat(descriptor_, &ours) != 0) fail("open");
  return ::stat(path_.c_str(), &named) != 0 || ours.st_ino != named.st_ino ||
         ours.st_dev != named.st_dev;
}

LineJournal::Contents LineJournal::read() {
  const std::string text = read_file(path_, kMaxBytes);
  Contents contents;
  whole_bytes_ = 0;
  for (size_t end = 0; (end = text.find('\n', whole_bytes_)) != std::string::npos;
       whole_bytes_ = end + 1)
    contents.lines.push_back(text.substr(whole_bytes_, end - whole_bytes_));
  contents.torn = torn_ = whole_bytes_ < text.size();
  return contents;
}

void LineJournal::append(std::string_view line) {
  if (torn_ && ::ftruncate(descriptor_, static_cast<off_t>(whole_bytes_)) != 0) fail("shorten");
  torn_ = true;  // until the line is whole
  const std::string bytes = std::string(line) + "\n";
  ssize_t written = 0;
  do written = ::write(descriptor_, bytes.data(), bytes.size());
  while (written < 0 && errno == EINTR);
  if (written < 0) fail("write");
  if (static_cast<size_t>(written) < bytes.size())
    throw FileError(fmt::format("cannot write '{}': {} of {} bytes fitted; is the disk full?",
                                path_.string(), written, bytes.size()));
  torn_ = false;
  whole_bytes_ += bytes.size();
  if (::fsync(descriptor_) != 0) fail("write");
}

void LineJournal::close_with(const std::vector<std::string>& lines) {
  write_file_atomically(path_, OnExist::kOverwrite, [&](const ByteSink& sink) {
    for (const std::string& line : lines) sink(line + "\n");
  });
  ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace molar
