#include "molar/evaluation/answer_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "molar/io/json_config.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxCacheBytes = 1ULL << 30;

std::string json_line(const std::string& key, const std::string& answer) {
  const auto quoted = [](const std::string& text) {
    return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  return fmt::format("{{\"key\": {}, \"answer\": {}}}\n", quoted(key), quoted(answer));
}

}  // namespace

/// Whole lines, and perhaps the start of one behind them, which the next append cuts off.
class AnswerCache::File {
 public:
  explicit File(const fs::path& path) : path_(path) {
    std::error_code error;
    if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
    if (error)
      throw FileError(fmt::format("cannot create folder '{}': {}", path.parent_path().string(),
                                  error.message()));
    // O_NONBLOCK: opening a pipe must not wait; it changes nothing for regular files.
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    if (descriptor_ < 0) fail("open");
    // Another process could append between our reading and our cutting. A file system without
    // locks is used without.
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(descriptor_);
      throw FileError(fmt::format(
          "'{}' is in use by another run; wait for it, or name another file", path.string()));
    }
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  /// The whole lines. Call order: read -> (append)*.
  std::string read() {
    std::string text = read_file(path_, kMaxCacheBytes);
    const size_t last = text.rfind('\n');
    whole_bytes_ = last == std::string::npos ? 0 : last + 1;
    torn_ = whole_bytes_ < text.size();
    if (torn_)
      spdlog::warn(
          "'{}': the last line was cut off while it was written; its answer is asked again",
          path_.string());
    text.resize(whole_bytes_);
    return text;
  }

  void append(std::string_view line) {
    if (torn_ && ::ftruncate(descriptor_, static_cast<off_t>(whole_bytes_)) != 0) fail("shorten");
    torn_ = true;  // until the line is whole
    ssize_t written = 0;
    do written = ::write(descriptor_, line.data(), line.size());
    while (written < 0 && errno == EINTR);
    if (written < 0) fail("write");
    if (static_cast<size_t>(written) < line.size())
      throw FileError(fmt::format("cannot write '{}': {} of {} bytes fitted; is the disk full?",
                                  path_.string(), written, line.size()));
    torn_ = false;
    whole_bytes_ += line.size();
    if (::fsync(descriptor_) != 0) fail("write");
  }

 private:
  [[noreturn]] void fail(std::string_view action) const {
    throw FileError(
        fmt::format("cannot {} '{}': {}", action, path_.string(), std::strerror(errno)));
  }

  fs::path path_;
  int descriptor_ = -1;
  size_t whole_bytes_ = 0;
  bool torn_ = false;
};

AnswerCache::AnswerCache(const fs::path& path) {
  if (path.empty()) return;
  file_ = std::make_unique<File>(path);
  const std::string text = file_->read();
  int64_t number = 0;
  for (size_t start = 0; start < text.size();) {
    const size_t end = text.find('\n', start);
    const std::string source = fmt::format("{}:{}", path.string(), ++number);
    const Json line = parse_json(std::string_view(text).substr(start, end - start), source);
    const JsonConfig fields(line, source);
    answers_.emplace(fields.get<std::string>("key"), fields.get<std::string>("answer"));
    fields.refuse_unread_keys();
    start = end + 1;
  }
}

AnswerCache::~AnswerCache() = default;

std::optional<std::string> AnswerCache::find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = answers_.find(key);
  return found == answers_.end() ? std::nullopt : std::optional(found->second);
}

void AnswerCache::add(const std::string& key, const std::string& answer) {
  const std::lock_guard lock(mutex_);
  if (answers_.contains(key)) return;
  if (file_) file_->append(json_line(key, answer));
  answers_.emplace(key, answer);
}

}  // namespace molar
