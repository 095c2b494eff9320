/// A file that does not exist until it is given a name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace molar {

/// Call order: (write | rewrite)* -> sync -> publish_new or publish_over. Destroyed before that, it
/// leaves nothing.
class TemporaryFile {
 public:
  enum class Kind {
    kUnnamed,  ///< O_TMPFILE: even a killed process leaves nothing behind
    kNamed,    ///< "<target>.molar-<pid>-<n>": where the file system lacks O_TMPFILE (NFS)
  };

  /// In the folder of `target`; unnamed where that works. Throws FileError with the system's
  /// reason.
  explicit TemporaryFile(const std::filesystem::path& target);
  TemporaryFile(const std::filesystem::path& target, Kind kind);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::string_view bytes);
  /// In place of what was written there. Later writes go on at the end.
  void rewrite(int64_t offset, std::string_view bytes);
  /// Everything is on the disk when it returns.
  void sync();
  /// false: something of that name exists, and is left alone.
  bool publish_new(const std::filesystem::path& path);
  /// Replaces what is there in one step.
  void publish_over(const std::filesystem::path& path);

 private:
  bool open_unnamed();
  void open_named();
  void start_writing_back(int64_t num_bytes);

  std::filesystem::path target_;
  std::string name_;  // empty while unnamed
  int descriptor_ = -1;
  int64_t waiting_bytes_ = 0;  // written since the disk was last told to start
};

}  // namespace molar
