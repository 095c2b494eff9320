#include <optional>

#include "picture_file.h"

namespace molar {
namespace {

using namespace std::string_view_literals;

/// Unsigned integers out of a TIFF block, in its own byte order; nullopt past its end.
class TiffReader {
 public:
  explicit TiffReader(std::string_view bytes)
      : bytes_(bytes), big_endian_(bytes.starts_with("MM")) {}

  std::optional<uint64_t> number(uint64_t offset, size_t size_bytes) const {
    if (offset > bytes_.size() || bytes_.size() - offset < size_bytes) return std::nullopt;
    uint64_t value = 0;
    for (size_t i = 0; i < size_bytes; ++i) {
      const size_t at = big_endian_ ? i : size_bytes - 1 - i;
      value = value << 8 | static_cast<unsigned char>(bytes_[offset + at]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

std::optional<int> exif_orientation(std::string_view exif) {
  for (int i = 0; i < 2 && exif.starts_with("Exif\0\0"sv); ++i) exif.remove_prefix(6);
  if (!exif.starts_with("II*\0"sv) && !exif.starts_with("MM\0*"sv)) return std::nullopt;
  const TiffReader tiff(exif);
  const uint64_t directory = tiff.number(4, 4).value_or(UINT64_MAX / 2);
  const uint64_t num_fields = tiff.number(directory, 2).value_or(0);
  for (uint64_t i = 0; i < num_fields; ++i) {
    const uint64_t field = directory + 2 + 12 * i;
    if (tiff.number(field, 2) != 0x0112U) continue;
    const auto type = tiff.number(field + 2, 2);
    const size_t size_bytes = type == 3U ? 2 : type == 4U ? 4 : 0;  // SHORT, LONG
    const auto value = tiff.number(field + 8, size_bytes);
    const bool is_one_number = size_bytes > 0 && tiff.number(field + 4, 4) == 1U && value;
    return is_one_number && *value >= 1 && *value <= 8 ? static_cast<int>(*value) : 1;
  }
  return std::nullopt;
}

std::optional<int> xmp_orientation(std::string_view xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = xmp.find(kName); at != std::string_view::npos; at = xmp.find(kName, at + 1)) {
    std::string_view rest = xmp.substr(at + kName.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return std::nullopt;
}

}  // namespace

int picture_orientation(std::string_view exif, std::string_view xmp) {
  if (const auto found = exif_orientation(exif)) return *found;
  return xmp_orientation(xmp).value_or(1);
}

}  // namespace molar
