/// Answers that were paid for once: one JSON line each, kept whatever happens to the run.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "molar/io/line_journal.h"

namespace molar {

/// A file of lines {"key": sha256 of the request's body, "answer": text}, read at once and appended
/// to. May be used by several threads; by one process at a time.
class AnswerCache {
 public:
  /// Opens the file and makes it, and folders on the way, where missing. A last line without its
  /// end (a process was killed while it wrote) is dropped with a warning. An empty path: answers
  /// are kept in memory only. Throws FileError: a broken line elsewhere, a file that cannot be
  /// written, or that another process has open.
  explicit AnswerCache(const std::filesystem::path& path);
  ~AnswerCache();
  AnswerCache(const AnswerCache&) = delete;
  AnswerCache& operator=(const AnswerCache&) = delete;

  std::optional<std::string> find(const std::string& key) const;
  /// The answer is on the disk when it returns. A key that is there keeps its answer. Throws
  /// FileError with the system's reason (full disk).
  void add(const std::string& key, const std::string& answer);

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string> answers_;
  std::unique_ptr<LineJournal> journal_;  // null: in memory only
};

}  // namespace molar
