/// Where a picture goes: file, template or folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace molar {

/// What a template may name.
struct PathFields {
  uint64_t seed = 0;
  int64_t row = 0;   ///< {row}: index of the picture within the command, from 0
  std::string name;  ///< {name}: the prompt as a file name, at most 40 characters
};

/// `output` with its fields filled in; where that is a folder (exists as one, or ends in '/'),
/// `molar-{seed}.png` in it. Braces other than {seed} {row} {name}: ConfigError that names them. An
/// extension other than .png: ConfigError.
std::filesystem::path output_path(const std::string& output, const PathFields& fields);

/// The prompt as part of a file name: letters, digits and dashes, at most 40 characters; "picture"
/// for none.
std::string path_name(const std::string& prompt);

}  // namespace molar
