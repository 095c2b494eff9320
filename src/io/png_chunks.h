/// The chunk structure of a PNG file and its texts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "molar/io/image.h"

namespace molar {

inline constexpr std::string_view kPngSignature("\x89PNG\r\n\x1a\n", 8);

/// Views into the file's bytes.
struct PngChunk {
  std::string_view type, data;
};

/// IHDR's fields that readers need before they decode.
struct PngHeader {
  uint32_t width_px, height_px;
  int bit_depth, color_type;
};

/// From IHDR to IEND; what follows IEND is ignored. `source` starts every message. Throws
/// InputError: no signature, cut short, a chunk longer than the file, a wrong CRC, IHDR not first,
/// no IEND.
std::vector<PngChunk> parse_png_chunks(std::string_view bytes, const std::string& source);

/// Of the list's first chunk.
PngHeader parse_png_header(const std::vector<PngChunk>& chunks, const std::string& source);

/// Throws InputError for a malformed text, or where all together need more than 64 MiB.
PngText parse_png_text(const std::vector<PngChunk>& chunks, const std::string& source);

}  // namespace molar
