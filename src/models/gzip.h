/// Reading a gzip file whole.
#pragma once

#include <filesystem>
#include <string>

namespace molar {

/// The file's text. Throws FileError: missing, not gzip, cut off, or larger than 16 MB unpacked.
std::string read_gzip_file(const std::filesystem::path& path);

}  // namespace molar
