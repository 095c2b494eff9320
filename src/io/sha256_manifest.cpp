#include "molar/io/sha256_manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <string_view>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "molar/io/hash.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr const char* kManifest = "SHA256SUMS";
constexpr uint64_t kMaxBytes = 1 << 24;
constexpr size_t kDigits = 64;
constexpr std::string_view kGap = "  ";  // "digest  file"; other tools' "digest *file" is not used

bool is_digest(std::string_view text) {
  return text.size() == kDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Below its folder, whatever the manifest says.
bool is_inside(const fs::path& file) {
  return !file.is_absolute() && std::ranges::find(file, "..") == file.end();
}

}  // namespace

ManifestCheck check_sha256_manifest(const fs::path& folder) {
  const fs::path manifest = folder / kManifest;
  std::istringstream lines(read_file(manifest, kMaxBytes));
  ManifestCheck check;
  for (std::string line; std::getline(lines, line); ++check.num_files) {
    const std::string wanted = line.substr(0, kDigits);
    const std::string file =
        line.size() > kDigits + kGap.size() ? line.substr(kDigits + kGap.size()) : "";
    if (!is_digest(wanted) || line.compare(kDigits, kGap.size(), kGap) != 0 || file.empty() ||
        !is_inside(file))
      throw FileError(fmt::format("'{}': line {}: wanted a SHA-256 in hex, two spaces and a file",
                                  manifest.string(), check.num_files + 1));
    std::error_code error;
    if (!fs::exists(folder / file, error)) {
      check.problems.push_back({file, "missing"});
      continue;
    }
    const std::string found = sha256_file(folder / file);
    if (found != wanted)
      check.problems.push_back(
          {file, fmt::format("changed: its SHA-256 is {}, wanted {}", found, wanted)});
  }
  if (check.num_files == 0) throw FileError(fmt::format("'{}' names no file", manifest.string()));
  return check;
}

}  // namespace molar
