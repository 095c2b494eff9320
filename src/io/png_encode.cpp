#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "molar/core/error.h"
#include "molar/core/text.h"
#include "molar/io/image.h"

namespace molar {
namespace {

// Measured on a 1024 x 1024 render: level 4 is 5 % larger than 6 and takes less than half the time.
constexpr int kCompressionLevel = 4;

/// nullopt: the text has letters beyond Latin-1. `utf8` must be valid.
std::optional<std::string> latin1_from_utf8(std::string_view utf8) {
  std::string latin1;
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto lead = static_cast<unsigned char>(utf8[i]);
    if (lead < 0x80) {
      latin1 += utf8[i];
    } else if (lead == 0xC2 || lead == 0xC3) {
      const auto tail = static_cast<unsigned char>(utf8[++i]);
      latin1 += static_cast<char>((lead & 0x03) << 6 | (tail & 0x3F));
    } else {
      return std::nullopt;
    }
  }
  return latin1;
}

struct TextChunk {
  std::string keyword, text;
  bool is_utf8;
};

std::vector<TextChunk> text_chunks(const PngText& text) {
  std::vector<TextChunk> chunks;
  for (const auto& [keyword, content] : text) {
    const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
    if (keyword.empty() || keyword.size() > 79 || keyword.front() == ' ' || keyword.back() == ' ' ||
        !std::all_of(keyword.begin(), keyword.end(), printable))
      throw Error(fmt::format(
          "internal: PNG keyword '{}' must be 1 to 79 printable ASCII characters", keyword));
    std::string utf8 = valid_utf8(content);
    for (size_t nul = utf8.find('\0'); nul != std::string::npos; nul = utf8.find('\0', nul))
      utf8.replace(nul, 1, "\xEF\xBF\xBD");
    std::optional<std::string> latin1 = keyword == "molar" ? std::nullopt : latin1_from_utf8(utf8);
    const bool is_utf8 = !latin1;
    chunks.push_back({keyword, latin1 ? std::move(*latin1) : std::move(utf8), is_utf8});
  }
  return chunks;
}

/// libpng's state; see Note [Jumps in C libraries].
class PngEncoder {
 public:
  PngEncoder()
      : png_(png_create_write_struct(PNG_LIBPNG_VER_STRING, this, &on_error, &on_warning)) {
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_write_struct(&png_, nullptr);
      throw MemoryError("libpng cannot start");
    }
  }
  ~PngEncoder() { png_destroy_write_struct(&png_, &info_); }
  PngEncoder(const PngEncoder&) = delete;
  PngEncoder& operator=(const PngEncoder&) = delete;

  bool write(png_bytepp rows, uint32_t width, uint32_t height, png_textp text, int num_text) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_write_fn(png_, this, &on_write, nullptr);
    png_set_compression_level(png_, kCompressionLevel);
    png_set_IHDR(png_, info_, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_text(png_, info_, text, num_text);
    png_write_info(png_, info_);
    png_write_image(png_, rows);
    png_write_end(png_, info_);
    return true;
  }
  std::string take() { return std::move(bytes_); }
  const char* message() const { return message_; }

 private:
  static void on_error(png_structp png, png_const_charp message) {
    auto* const self = static_cast<PngEncoder*>(png_get_error_ptr(png));
    std::strncpy(self->message_, message, sizeof(self->message_) - 1);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}  // libpng's own would print
  static void on_write(png_structp png, png_bytep from, size_t size_bytes) {
    auto* const self = static_cast<PngEncoder*>(png_get_io_ptr(png));
    self->bytes_.append(reinterpret_cast<const char*>(from), size_bytes);
  }

  std::string bytes_;
  char message_[160] = "";
  png_structp png_;
  png_infop info_ = nullptr;
};

}  // namespace

std::string encode_png(const Tensor& pixels, const PngText& text) {
  check_shape(pixels, {-1, -1, 3}, "encode_png");
  if (pixels.scalar_type() != at::kByte)
    throw Error(
        fmt::format("encode_png: wanted uint8, found {}", dtype_name(pixels.scalar_type())));
  const Tensor packed = pixels.to(at::kCPU).contiguous();
  std::vector<png_bytep> rows(static_cast<size_t>(packed.size(0)));
  for (size_t y = 0; y < rows.size(); ++y)
    rows[y] = packed.mutable_data_ptr<uint8_t>() + y * static_cast<size_t>(packed.size(1)) * 3;

  std::vector<TextChunk> chunks = text_chunks(text);
  std::vector<png_text> entries(chunks.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    entries[i].compression =
        chunks[i].is_utf8 ? PNG_ITXT_COMPRESSION_NONE : PNG_TEXT_COMPRESSION_NONE;
    entries[i].key = chunks[i].keyword.data();
    entries[i].text = chunks[i].text.data();
    entries[i].text_length = chunks[i].is_utf8 ? 0 : chunks[i].text.size();
    entries[i].itxt_length = chunks[i].is_utf8 ? chunks[i].text.size() : 0;
    entries[i].lang = nullptr;
    entries[i].lang_key = nullptr;
  }
  PngEncoder encoder;
  if (!encoder.write(rows.data(), static_cast<uint32_t>(packed.size(1)),
                     static_cast<uint32_t>(packed.size(0)), entries.data(),
                     static_cast<int>(entries.size())))
    throw Error(fmt::format("cannot encode a PNG of {}: {}", shape_string(pixels.sizes()),
                            encoder.message()));
  return encoder.take();
}

}  // namespace molar
