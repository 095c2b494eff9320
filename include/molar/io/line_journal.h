/// A file of lines that is appended to, each line on the disk before the next thing happens.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace molar {

/// Call order: read -> (append)* -> [close_with]. One process at a time has the file.
class LineJournal {
 public:
  /// Opens the file and makes it, and folders on the way, where missing. Throws FileError: it
  /// cannot be written, or another process has it.
  explicit LineJournal(const std::filesystem::path& path);
  ~LineJournal();
  LineJournal(const LineJournal&) = delete;
  LineJournal& operator=(const LineJournal&) = delete;

  struct Contents {
    std::vector<std::string> lines;  ///< whole ones, without their ends
    bool torn = false;  ///< a last line without its end (a process was killed while it wrote)
                        ///< stands behind them; the next append cuts it off
  };
  Contents read();
  /// `line` without its end; it is on the disk when this returns. Throws FileError with the
  /// system's reason (full disk).
  void append(std::string_view line);
  /// Replaces everything by `lines` in one step. Nothing may be appended any more.
  void close_with(const std::vector<std::string>& lines);

  const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void fail(std::string_view action) const;
  void open();
  bool was_replaced() const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  size_t whole_bytes_ = 0;
  bool torn_ = false;
};

}  // namespace molar
