/// What the picture decoders share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "molar/core/tensor.h"

namespace molar {

/// The file's bytes. Throws InputError: missing, no regular file, larger than 1 GiB.
std::string read_picture_file(const std::filesystem::path& path);

/// Before anything of that size is allocated. Throws InputError: empty, more than 16384 pixels a
/// side or 178,956,970 in all.
void check_picture_size(uint64_t width_px, uint64_t height_px, const std::string& source);

/// A decoded file before its orientation is applied.
struct RawPicture {
  Tensor pixels;        ///< uint8 [H, W, 3] (RGB) or [H, W, 1] (grey)
  int orientation = 1;  ///< EXIF's numbers; 1 is upright
};

/// Whole-file decoders. Throw InputError, starting with `source`, for broken data.
RawPicture decode_png(std::string_view bytes, const std::string& source);
RawPicture decode_jpeg(std::string_view bytes, const std::string& source);

/// The orientation from an EXIF block (TIFF, with or without "Exif\0\0" before it), else from an
/// XMP packet, else 1; 1 too for what is malformed, as Pillow has it.
int picture_orientation(std::string_view exif, std::string_view xmp);

}  // namespace molar
