#include "molar/core/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <string>

#include "molar/core/error.h"
#include "temporary_file.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // a folder that may be written but not listed: the name stands
  ::fsync(descriptor);
  ::close(descriptor);
}

fs::path numbered(const fs::path& target, int64_t number) {
  if (number == 0) return target;
  return target.parent_path() /
         fmt::format("{}-{}{}", target.stem().string(), number, target.extension().string());
}

}  // namespace

void ByteSink::operator()(std::string_view bytes) const { file_.write(bytes); }
void ByteSink::rewrite(int64_t offset, std::string_view bytes) const {
  file_.rewrite(offset, bytes);
}

bool is_taken(const fs::path& path) {
  std::error_code error;  // a folder on the way that cannot be entered is the writer's to report
  return fs::exists(fs::symlink_status(path, error));
}

fs::path NumberedNames::next() {
  fs::path name;
  do name = numbered(target_, number_++);
  while (is_taken(name));
  return name;
}

fs::path resolve_target(const fs::path& target, OnExist on_exist) {
  if (!is_taken(target)) return target;
  if (on_exist == OnExist::kError)
    throw ConfigError(
        fmt::format("'{}' exists; choose another -o, or --on-exist number, skip or overwrite",
                    target.string()));
  return on_exist == OnExist::kNumber ? NumberedNames(target).next() : target;
}

WrittenFile write_file_atomically(const fs::path& target, OnExist on_exist,
                                  const std::function<void(const ByteSink&)>& write) {
  std::error_code error;
  if (!target.has_filename() || fs::is_directory(target, error))
    throw FileError(
        fmt::format("cannot write '{}': it is a folder; name a file in it", target.string()));
  fs::path final_path = resolve_target(target, on_exist);
  if (on_exist == OnExist::kSkip && is_taken(final_path)) return {final_path, false};
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  fs::create_directories(folder, error);
  if (error)
    throw FileError(fmt::format("cannot create folder '{}': {}", folder.string(), error.message()));

  TemporaryFile temporary(target);
  write(ByteSink(temporary));
  temporary.sync();
  if (on_exist == OnExist::kOverwrite) {
    temporary.publish_over(target);
  } else {
    while (!temporary.publish_new(final_path)) {  // somebody took the name meanwhile
      if (on_exist == OnExist::kSkip) return {final_path, false};
      final_path = resolve_target(target, on_exist);
    }
  }
  sync_folder(folder);
  return {final_path};
}

}  // namespace molar
