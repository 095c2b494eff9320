/// Strict reading of JSON objects: every error names file, path inside the file, wanted and found.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace molar {

using Json = nlohmann::json;

/// Parses a JSON file. Throws FileError: missing, not JSON (with line and column), duplicate keys,
/// nested deeper than 64 levels, larger than 256 MB.
Json read_json_file(const std::filesystem::path& path);
/// The same for text; `source` names it in messages.
Json parse_json(std::string_view text, const std::string& source);

/// JSON as text, on one line unless `indent` is 0 or more. Bytes that are no UTF-8, as file names
/// may have, are replaced.
std::string dump_json(const Json& json, int indent = -1);

/// A view of one JSON object that is read field by field. `source` (a file name, or
/// "unet/config.json") starts every message. Numbers are checked for range; null counts as absent.
class JsonConfig {
 public:
  /// Throws FileError unless `object` is an object. Keeps a reference: `object` must outlive the
  /// view.
  JsonConfig(const Json& object, std::string source);

  bool has(const std::string& key) const;
  /// get<T>: required, throws FileError where absent or of another type. T: bool, int64_t, double,
  /// std::string, std::vector of these.
  template <typename T>
  T get(const std::string& key) const;
  template <typename T>
  T get_or(const std::string& key, T fallback) const;
  template <typename T>
  std::optional<T> get_optional(const std::string& key) const;
  /// A value that diffusers writes as a scalar or as one per block: returns `count` values.
  /// Throws FileError where a list has another length.
  std::vector<int64_t> get_per_block(const std::string& key, size_t count, int64_t fallback) const;

  /// Throws FileError that names the first key never asked for (keys that start with '_' are
  /// exempt): a value that nobody reads is a value that is silently ignored.
  void refuse_unread_keys() const;
  /// Marks keys as read that are known to have no effect on what we compute.
  void ignore(std::initializer_list<const char*> keys) const;
  /// Throws FileError unless the key is absent, null, or equal to one of `supported`.
  void require_one_of(const std::string& key, const std::vector<Json>& supported) const;

  const std::string& source() const { return source_; }
  const Json& json() const { return object_; }

 private:
  const Json& object_;
  std::string source_;
  mutable std::set<std::string> read_;
};

}  // namespace molar
