/// SHA-256 in the forms that the ecosystem uses.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace molar {

/// Lower-case hex digits.
inline constexpr size_t kSha256HexDigits = 64;

/// kSha256HexDigits of them.
std::string sha256_hex(std::string_view bytes);
/// Of a whole file. Throws FileError where it cannot be read.
std::string sha256_file(const std::filesystem::path& path);
/// Of a safetensors file's bytes after the header: what A1111 and kohya call the LoRA's hash.
std::string sha256_safetensors_data(const std::filesystem::path& path);

}  // namespace molar
