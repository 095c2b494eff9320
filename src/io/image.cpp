#include "molar/io/image.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cctype>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "picture_file.h"
#include "png_chunks.h"

namespace molar {
namespace {

using namespace std::string_view_literals;

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxSidePx = 16384;
constexpr uint64_t kMaxPixels = 178'956'970;  // where Pillow raises DecompressionBombError

constexpr std::pair<std::string_view, std::string_view> kOtherFormats[] = {
    {"GIF8"sv, "a GIF"},
    {"BM"sv, "a BMP"},
    {"II*\0"sv, "a TIFF"},
    {"MM\0*"sv, "a TIFF"},
    {"\0\0\1\0"sv, "an icon"},
    {"\xFF\x0A"sv, "a JPEG XL"},
    {"<"sv, "a text (SVG or a web page)"},
};

std::string_view name_format(std::string_view bytes) {
  if (bytes.empty()) return "an empty file";
  const auto holds = [&](size_t at, std::string_view magic) {
    return bytes.size() > at && bytes.substr(at).starts_with(magic);
  };
  if (holds(0, "RIFF") && holds(8, "WEBP")) return "a WebP";
  if (holds(4, "ftypavif")) return "an AVIF";
  if (holds(4, "ftyp")) return "a HEIC or a video";
  for (const auto& [start, name] : kOtherFormats)
    if (bytes.starts_with(start)) return name;
  return "something else";
}

/// EXIF's eight orientations, each undone. pixels: [H, W, C].
Tensor turned_upright(const Tensor& pixels, int orientation) {
  switch (orientation) {
    case 2:
      return pixels.flip({1});
    case 3:
      return pixels.flip({0, 1});
    case 4:
      return pixels.flip({0});
    case 5:
      return pixels.transpose(0, 1);
    case 6:
      return pixels.transpose(0, 1).flip({1});
    case 7:
      return pixels.transpose(0, 1).flip({0, 1});
    case 8:
      return pixels.transpose(0, 1).flip({0});
    default:
      return pixels;
  }
}

/// [H, W, 3] or [H, W, 1], upright.
Tensor read_pixels(const std::filesystem::path& path) {
  const std::string bytes = read_picture_file(path);
  const std::string source = fmt::format("'{}'", path.string());
  RawPicture picture;
  if (bytes.starts_with(kPngSignature)) {
    picture = decode_png(bytes, source);
  } else if (bytes.starts_with("\xFF\xD8\xFF")) {
    picture = decode_jpeg(bytes, source);
  } else {
    throw InputError(
        fmt::format("{}: wanted a PNG or JPEG picture, found {}", source, name_format(bytes)));
  }
  return turned_upright(picture.pixels, picture.orientation).contiguous();
}

}  // namespace

std::string read_picture_file(const std::filesystem::path& path) {
  try {
    return read_file(path, kMaxFileBytes);
  } catch (const FileError& error) {
    throw InputError(error.what());  // a picture is input, not a part of the model
  }
}

void check_picture_size(uint64_t width_px, uint64_t height_px, const std::string& source) {
  if (width_px == 0 || height_px == 0)
    throw InputError(
        fmt::format("{}: the picture is empty ({} x {} pixels)", source, width_px, height_px));
  if (width_px > kMaxSidePx || height_px > kMaxSidePx || width_px * height_px > kMaxPixels)
    throw InputError(
        fmt::format("{}: the picture has {} x {} pixels; the most is {} a side and {} in all",
                    source, width_px, height_px, kMaxSidePx, kMaxPixels));
}

bool is_picture_name(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

Tensor read_image(const std::filesystem::path& path) {
  return read_pixels(path).expand({-1, -1, 3}).contiguous();
}

Tensor read_mask(const std::filesystem::path& path) {
  const Tensor pixels = read_pixels(path);
  if (pixels.size(2) == 1) return pixels.squeeze(2);
  const Tensor luma = at::empty({pixels.size(0), pixels.size(1)}, at::kByte);
  const auto* in = pixels.const_data_ptr<uint8_t>();
  auto* const out = luma.mutable_data_ptr<uint8_t>();
  // ITU-R 601 in Pillow's 16-bit fixed point, rounded.
  for (int64_t i = 0; i < luma.numel(); ++i, in += 3)
    out[i] = static_cast<uint8_t>((in[0] * 19595 + in[1] * 38470 + in[2] * 7471 + 0x8000) >> 16);
  return luma;
}

}  // namespace molar
