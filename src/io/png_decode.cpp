#include <ATen/ATen.h>
#include <fmt/format.h>
#include <png.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>

#include "molar/core/error.h"
#include "picture_file.h"
#include "png_chunks.h"

namespace molar {
namespace {

// Note [Jumps in C libraries]
// libpng and libjpeg report errors by longjmp, which skips C++ destructors. So every function that
// calls setjmp here holds only plain values, and owners live in its caller.

/// libpng's state and the bytes it reads.
class PngDecoder {
 public:
  explicit PngDecoder(std::string_view bytes)
      : rest_(bytes),
        png_(png_create_read_struct(PNG_LIBPNG_VER_STRING, this, &on_error, &on_warning)) {
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw MemoryError("libpng cannot start");
    }
  }
  ~PngDecoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  /// false: `message` says why. Afterwards rows have `channels` bytes a pixel, 16-bit grey two.
  bool read_header() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    // Ancillary chunks are not libpng's business: our own reader looks at the ones we need.
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);  // check_picture_size has been there
    png_set_read_fn(png_, this, &on_read);
    png_read_info(png_, info_);
    const int color_type = png_get_color_type(png_, info_);
    const bool grey16 = color_type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png_, info_) == 16;
    if (color_type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
    if (color_type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png_);
    if (!grey16) png_set_strip_16(png_);
    png_set_strip_alpha(png_);
    num_passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  /// rows: `height` pointers.
  bool read_rows(png_bytepp rows, uint32_t height) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    for (int pass = 0; pass < num_passes_; ++pass) png_read_rows(png_, rows, nullptr, height);
    return true;
  }

  size_t row_bytes() const { return png_get_rowbytes(png_, info_); }
  int channels() const { return png_get_channels(png_, info_); }
  const char* message() const { return message_; }

 private:
  static void on_error(png_structp png, png_const_charp message) {
    auto* const self = static_cast<PngDecoder*>(png_get_error_ptr(png));
    std::strncpy(self->message_, message, sizeof(self->message_) - 1);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}  // what it repairs, Pillow repairs too
  static void on_read(png_structp png, png_bytep to, size_t size_bytes) {
    auto* const self = static_cast<PngDecoder*>(png_get_io_ptr(png));
    if (self->rest_.size() < size_bytes) png_error(png, "the file ends too early");
    std::memcpy(to, self->rest_.data(), size_bytes);
    self->rest_.remove_prefix(size_bytes);
  }

  std::string_view rest_;
  char message_[160] = "";
  int num_passes_ = 1;
  png_structp png_;
  png_infop info_ = nullptr;
};

/// ImageMagick's text chunk "Raw profile type exif": three lines of head, then hexadecimal digits.
std::string exif_from_hex_text(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  std::string bytes;
  int high = -1;
  for (const char letter : text) {
    const size_t digit =
        std::string_view("0123456789abcdef").find(static_cast<char>(letter | 0x20));
    if (letter == '\n') continue;
    if (digit == std::string_view::npos) return {};
    if (high < 0) {
      high = static_cast<int>(digit);
    } else {
      bytes += static_cast<char>(high << 4 | static_cast<int>(digit));
      high = -1;
    }
  }
  return bytes;
}

int png_orientation(const std::vector<PngChunk>& chunks, const std::string& source) {
  std::string exif, xmp;
  for (auto& [keyword, text] : parse_png_text(chunks, source)) {
    if (keyword == "XML:com.adobe.xmp")
      xmp = std::move(text);
    else if (keyword == "Raw profile type exif")
      exif = exif_from_hex_text(text);
  }
  for (const PngChunk& chunk : chunks)
    if (chunk.type == "eXIf") exif = std::string(chunk.data);
  return picture_orientation(exif, xmp);
}

}  // namespace

RawPicture decode_png(std::string_view bytes, const std::string& source) {
  const std::vector<PngChunk> chunks = parse_png_chunks(bytes, source);
  const PngHeader header = parse_png_header(chunks, source);
  PngDecoder decoder(bytes);
  if (!decoder.read_header())
    throw InputError(fmt::format("{} is a broken PNG: {}", source, decoder.message()));
  const bool grey16 = header.color_type == PNG_COLOR_TYPE_GRAY && header.bit_depth == 16;
  const int64_t height = header.height_px, width = header.width_px;
  const Tensor pixels =
      at::empty({height, width, decoder.channels()}, grey16 ? at::kShort : at::kByte);
  std::vector<png_bytep> rows(header.height_px);
  auto* const first_row = static_cast<png_bytep>(pixels.mutable_data_ptr());
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = first_row + y * decoder.row_bytes();
  if (!decoder.read_rows(rows.data(), header.height_px))
    throw InputError(fmt::format("{} is a broken PNG: {}", source, decoder.message()));
  if (!grey16) return {pixels, png_orientation(chunks, source)};

  const Tensor clipped = at::empty({height, width, 1}, at::kByte);
  auto* const out = clipped.mutable_data_ptr<uint8_t>();
  int64_t num_clipped = 0;
  for (int64_t i = 0; i < pixels.numel(); ++i) {
    const bool fits = first_row[2 * i] == 0;  // big-endian
    out[i] = fits ? first_row[2 * i + 1] : 255;
    num_clipped += fits ? 0 : 1;
  }
  if (num_clipped > 0)
    spdlog::warn(
        "{} is 16-bit grey: {} pixels above 255 become white, as in Pillow; save it with 8 bits",
        source, num_clipped);
  return {clipped, png_orientation(chunks, source)};
}

}  // namespace molar
