/// The header of the safetensors format as text: parsed and checked, or composed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "molar/io/safetensors.h"

namespace molar {

/// The reference implementation's limit; a length beyond it is a broken or hostile file.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::map<std::string, SafetensorsEntry> entries;
};

/// `text` is the JSON between the length and the data, `data_bytes` the size of what follows.
/// `source` starts every message. Throws FileError as SafetensorsFile::open says.
SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_bytes,
                                           const std::string& source);

/// "F32" for float32 and so on; nullptr for a type that the format lacks.
const char* safetensors_dtype_name(at::ScalarType dtype);
/// The place of a dtype in the reference writer's order: wide types first, so that all stay
/// aligned.
int safetensors_dtype_rank(at::ScalarType dtype);

}  // namespace molar
