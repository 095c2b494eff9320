/// Reading whole files, with the checks that every reader needs first.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "molar/core/error.h"

namespace molar {

/// An open descriptor of a regular file, closed at the end of its life.
class InputFile {
 public:
  /// Throws FileError with the system's reason; folders, devices and pipes are refused (a pipe
  /// would wait for ever, a device never ends).
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  int descriptor() const { return descriptor_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  int descriptor_;
  uint64_t size_bytes_ = 0;
};

/// The file's bytes. Throws FileError: as InputFile, or larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes);

/// What a path that leads nowhere most likely meant, of what lies in its folder:
/// "; did you mean 'loras/dog.safetensors'?", or "" where nothing is near. Never throws.
std::string path_suggestion(const std::filesystem::path& path);

/// Changes where the file is written or replaced; of a folder, where any file in it is. Empty where
/// there is none.
std::string file_state(const std::filesystem::path& path);

}  // namespace molar
