/// The safetensors format: an 8-byte little-endian header length, a JSON header, then raw tensors.
/// Reading maps the file; tensors are views of the mapping, nothing is copied.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "molar/core/atomic_file.h"
#include "molar/io/state_dict.h"

namespace molar {

/// One tensor's line in the header. Offsets are half-open [begin, end), from the end of the header.
struct SafetensorsEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin_bytes, end_bytes;
};

/// A mapped file. Copies share the mapping; tensors keep it alive.
class SafetensorsFile {
 public:
  /// Checks everything before any tensor is handed out: file size, header length, JSON (duplicate
  /// keys, types), dtype, shape (negative, overflow), offsets (order, overlap, holes, the file's
  /// end). Throws FileError that names the file and the entry.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const;
  /// The header's `__metadata__`, empty where absent.
  const std::map<std::string, std::string>& metadata() const;
  const std::map<std::string, SafetensorsEntry>& entries() const;

  /// A read-only view of the mapping (CPU). Copies only where the file's offset is not a multiple
  /// of the element size. Throws FileError for an unknown name.
  Tensor tensor(const std::string& name) const;
  /// All tensors as views.
  StateDict state_dict() const;

  /// Bytes after the header (for hashes of the content without metadata).
  std::string_view data_bytes() const;

 private:
  struct Mapping;
  std::shared_ptr<const Mapping> mapping_;
};

/// Tells the system that a mapped tensor's pages are not needed in memory any more; reading the
/// tensor again loads them from the file. For use after a converted copy was made. No effect on
/// other tensors.
void release_mapped_pages(const Tensor& tensor);

using SafetensorsMetadata = std::map<std::string, std::string>;

/// Writes `tensors` (moved to contiguous CPU memory one by one) and `metadata`, atomically.
/// `late_metadata`, if any, is called once the tensors are written, and stands in the place of
/// `metadata`: for values of a known length that are still being computed, such as hashes. Returns
/// the path written. Throws FileError for a dtype the format lacks, or where writing fails.
std::filesystem::path write_safetensors(
    const std::filesystem::path& path, OnExist on_exist, const StateDict& tensors,
    const SafetensorsMetadata& metadata,
    const std::function<SafetensorsMetadata()>& late_metadata = {});

}  // namespace molar
