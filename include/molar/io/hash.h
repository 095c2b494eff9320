/// SHA-256 in the forms that the ecosystem uses.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace molar {

/// 64 lower-case hex digits.
std::string sha256_hex(std::string_view bytes);
/// Of a whole file. Throws FileError where it cannot be read.
std::string sha256_file(const std::filesystem::path& path);
/// Of a safetensors file's bytes after the header: what A1111 and kohya call the LoRA's hash.
std::string sha256_safetensors_data(const std::filesystem::path& path);

}  // namespace molar
