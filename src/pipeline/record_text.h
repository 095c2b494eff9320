/// Texts and paths of a record, as strictly read as the options that they stand for.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>

#include "molar/core/error.h"
#include "molar/io/json_config.h"

namespace molar {

/// Throws FileError where `key` is missing or no string, InputError for a NUL in it: the tokenizer
/// and the system's calls would read what stands before it.
inline std::string read_text(const JsonConfig& json, const std::string& key) {
  std::string text = json.get<std::string>(key);
  if (text.find('\0') != std::string::npos)
    throw InputError(
        fmt::format("{}: '{}' must be text without NUL, is {}", json.source(), key, text));
  return text;
}

/// Absolute: the record is read in other folders than the one where the picture was drawn.
inline std::string write_path(const std::filesystem::path& path) {
  return std::filesystem::absolute(path).string();
}

/// The path as it stands; not empty.
inline std::filesystem::path read_path(const JsonConfig& json, const std::string& key) {
  std::string text = read_text(json, key);
  if (text.empty())
    throw InputError(fmt::format("{}: '{}' is empty; wanted a path", json.source(), key));
  return text;
}

}  // namespace molar
