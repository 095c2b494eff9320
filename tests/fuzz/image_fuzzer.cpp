/// Any bytes are either refused with an Error or are a picture and its texts.
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <string_view>

#include "molar/core/error.h"
#include "picture_file.h"
#include "png_chunks.h"

namespace {

using molar::RawPicture;

void check(RawPicture (*decode)(std::string_view, const std::string&), std::string_view bytes) {
  try {
    const RawPicture picture = decode(bytes, "'fuzz'");
    const auto channels = picture.pixels.size(2);
    if (picture.pixels.dim() != 3 || (channels != 1 && channels != 3)) std::abort();
  } catch (const molar::InputError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  spdlog::set_level(spdlog::level::off);
  const std::string_view bytes(reinterpret_cast<const char*>(data), size_bytes);
  check(&molar::decode_png, bytes);
  check(&molar::decode_jpeg, bytes);
  try {
    molar::parse_png_text(molar::parse_png_chunks(bytes, "'fuzz'"), "'fuzz'");
  } catch (const molar::InputError&) {
  }
  // Checksums hide what lies behind them from a fuzzer, so the text and EXIF readers also get raw
  // bytes.
  try {
    for (const char* type : {"tEXt", "zTXt", "iTXt"})
      molar::parse_png_text({molar::PngChunk{type, bytes}}, "'fuzz'");
  } catch (const molar::InputError&) {
  }
  const int orientation = molar::picture_orientation(bytes, bytes);
  if (orientation < 0 || orientation > 9) std::abort();
  return 0;
}
