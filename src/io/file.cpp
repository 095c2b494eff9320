#include "molar/io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "molar/core/nearest_name.h"

namespace molar {

InputFile::InputFile(const std::filesystem::path& path)
    // O_NONBLOCK: opening a pipe must not wait for a writer; it changes nothing for regular files.
    : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_ < 0) {
    const int reason = errno;
    throw FileError(fmt::format("cannot open '{}': {}{}", path.string(), std::strerror(reason),
                                reason == ENOENT ? path_suggestion(path) : ""));
  }
  struct stat status{};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    const char* found = !known                    ? std::strerror(errno)
                        : S_ISDIR(status.st_mode) ? "it is a folder"
                                                  : "it is a pipe, socket or device";
    ::close(descriptor_);
    throw FileError(fmt::format("'{}': wanted a regular file, but {}", path.string(), found));
  }
  size_bytes_ = static_cast<uint64_t>(status.st_size);
}

InputFile::~InputFile() { ::close(descriptor_); }

std::string read_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const InputFile file(path);
  if (file.size_bytes() > max_bytes)
    throw FileError(fmt::format("'{}' has {} bytes, more than the {} that such a file may have",
                                path.string(), file.size_bytes(), max_bytes));
  std::string bytes(file.size_bytes(), '\0');
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count = ::read(file.descriptor(), bytes.data() + filled, bytes.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw FileError(fmt::format("cannot read '{}': {}", path.string(), std::strerror(errno)));
    if (count == 0) break;  // it shrank meanwhile: what is there is what we return
    filled += static_cast<size_t>(count);
  }
  bytes.resize(filled);
  return bytes;
}

std::string path_suggestion(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  const fs::path named = path.has_filename() ? path : path.parent_path();  // "loras/"
  const fs::path folder = named.parent_path();
  const std::string stem = named.stem().string(), extension = named.extension().string();
  // By their stems: endings are alike, and would make every file near.
  std::map<std::string, fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder.empty() ? "." : folder, error), end;
       !error && entry != end; entry.increment(error)) {
    const fs::path name = entry->path().filename();
    const bool is_like = edit_distance(name.extension().string(), extension) <= 1;
    if (is_like && name.string() != named.filename().string())
      files.try_emplace(name.stem().string(), folder / name);
  }
  if (const auto same = files.find(stem); same != files.end())
    return fmt::format("; did you mean '{}'?", same->second.string());
  std::vector<std::string> stems;
  for (const auto& [name, file] : files) stems.push_back(name);
  const auto found = nearest_name(stem, stems);
  return found ? fmt::format("; did you mean '{}'?", files.at(*found).string()) : "";
}

std::string file_state(const std::filesystem::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return "";
  std::string state = fmt::format("{} {} {}.{}", status.st_ino, status.st_size,
                                  status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  if (!S_ISDIR(status.st_mode)) return state;
  std::set<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.is_regular_file()) files.insert(entry.path());
  for (const auto& file : files) state.append(" ").append(file_state(file));
  return state;
}

}  // namespace molar
