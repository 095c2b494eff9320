/// What one file is and holds, found by looking into it.
#pragma once

#include <filesystem>
#include <string>

#include "molar/io/json_config.h"

namespace molar::cli {

struct Inspection {
  std::filesystem::path path;
  Json fields;       ///< "kind": "model", "LoRA", "picture", and what belongs to it
  std::string text;  ///< the same for people, one "name: value" a line

  /// {"schema": 1, "path": ..., fields...} and a newline.
  std::string to_json_line() const;
  std::string to_text() const;
};

/// Throws FileError: missing, broken, a pickle (with the way to convert it), or of no known kind.
Inspection inspect_file(const std::filesystem::path& path);

}  // namespace molar::cli
