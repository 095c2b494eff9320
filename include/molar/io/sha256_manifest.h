/// A folder's SHA256SUMS, as sha256sum(1) writes it: what its files should be.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace molar {

struct ManifestProblem {
  std::string file;  ///< as the manifest names it
  std::string what;  ///< "missing", "changed: SHA-256 is ..., wanted ..."
};

struct ManifestCheck {
  int64_t num_files = 0;
  std::vector<ManifestProblem> problems;
};

/// Hashes every file that `folder`/SHA256SUMS names; others do not count. Throws FileError where
/// the manifest is missing or is none.
ManifestCheck check_sha256_manifest(const std::filesystem::path& folder);

}  // namespace molar
