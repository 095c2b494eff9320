#include <ATen/ATen.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

// jpeglib.h needs these two before it.
#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <vector>

#include "molar/core/error.h"
#include "picture_file.h"

namespace molar {
namespace {

using namespace std::string_view_literals;

// A progressive file of a few kilobytes can ask for thousands of passes over a huge picture.
constexpr int kMaxScans = 500;

/// libjpeg's state; see Note [Jumps in C libraries].
class JpegDecoder {
 public:
  JpegDecoder() {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = &on_error;
    errors_.emit_message = &on_message;
    progress_.progress_monitor = &on_progress;
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&info_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  /// false: `message` says why. The steps are called in this order, each once.
  bool read_header(std::string_view bytes) {
    if (setjmp(jump_) != 0) return false;
    jpeg_create_decompress(&info_);
    info_.progress = &progress_;
    jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&info_, TRUE);
    return true;
  }
  bool start() {
    if (setjmp(jump_) != 0) return false;
    info_.out_color_space = info_.num_components == 1   ? JCS_GRAYSCALE
                            : info_.num_components == 3 ? JCS_RGB
                                                        : JCS_CMYK;
    jpeg_start_decompress(&info_);
    return true;
  }
  bool read_rows(JSAMPARRAY rows) {
    if (setjmp(jump_) != 0) return false;
    while (info_.output_scanline < info_.output_height)
      jpeg_read_scanlines(&info_, rows + info_.output_scanline,
                          info_.output_height - info_.output_scanline);
    return true;
  }

  const jpeg_decompress_struct& info() const { return info_; }
  const char* message() const { return message_; }
  bool damaged() const { return damaged_; }

 private:
  static JpegDecoder& self(j_common_ptr info) {
    return *static_cast<JpegDecoder*>(info->client_data);
  }
  static void on_error(j_common_ptr info) {
    info->err->format_message(info, self(info).message_);
    std::longjmp(self(info).jump_, 1);
  }
  static void on_message(j_common_ptr info, int level) {
    if (level >= 0) return;  // traces
    if (info->err->msg_code == JWRN_JPEG_EOF) on_error(info);
    if (!self(info).damaged_) info->err->format_message(info, self(info).message_);
    self(info).damaged_ = true;
  }
  static void on_progress(j_common_ptr info) {
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
    std::snprintf(self(info).message_, JMSG_LENGTH_MAX, "more than %d scans", kMaxScans);
    std::longjmp(self(info).jump_, 1);
  }

  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_{};
  char message_[JMSG_LENGTH_MAX] = "";
  bool damaged_ = false;
};

/// Adobe writes CMYK inverted, and every reader assumes so. In Pillow's integers:
/// out = k - round((255 - c) * k / 255), where c and k are the inverted ink values.
Tensor rgb_from_inverted_cmyk(const Tensor& cmyk) {
  const Tensor rgb = at::empty({cmyk.size(0), cmyk.size(1), 3}, at::kByte);
  const auto* in = cmyk.const_data_ptr<uint8_t>();
  auto* out = rgb.mutable_data_ptr<uint8_t>();
  for (int64_t i = 0; i < cmyk.size(0) * cmyk.size(1); ++i, in += 4, out += 3) {
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - in[c]) * in[3] + 128;
      out[c] = static_cast<uint8_t>(std::max(0, in[3] - ((product >> 8) + product) / 256));
    }
  }
  return rgb;
}

int jpeg_orientation(const jpeg_decompress_struct& info) {
  std::string exif, xmp;
  for (auto* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    constexpr auto kXmp = "http://ns.adobe.com/xap/1.0/\0"sv;
    if (data.starts_with("Exif\0\0"sv)) exif += exif.empty() ? data : data.substr(6);
    if (data.starts_with(kXmp)) xmp = data.substr(kXmp.size());
  }
  return picture_orientation(exif, xmp);
}

}  // namespace

RawPicture decode_jpeg(std::string_view bytes, const std::string& source) {
  JpegDecoder decoder;
  const auto check = [&](bool succeeded) {
    if (!succeeded)
      throw InputError(fmt::format("{} is a broken JPEG: {}", source, decoder.message()));
  };
  check(decoder.read_header(bytes));
  const jpeg_decompress_struct& info = decoder.info();
  check_picture_size(info.image_width, info.image_height, source);
  if (info.num_components != 1 && info.num_components != 3 && info.num_components != 4)
    throw InputError(fmt::format("{}: wanted a JPEG of 1, 3 or 4 colour components, found {}",
                                 source, info.num_components));
  check(decoder.start());
  Tensor pixels = at::empty({static_cast<int64_t>(info.output_height),
                             static_cast<int64_t>(info.output_width), info.output_components},
                            at::kByte);
  std::vector<JSAMPROW> rows(info.output_height);
  for (size_t y = 0; y < rows.size(); ++y)
    rows[y] = pixels.mutable_data_ptr<uint8_t>() +
              y * info.output_width * static_cast<size_t>(info.output_components);
  check(decoder.read_rows(rows.data()));
  if (decoder.damaged())
    spdlog::warn("{} is a damaged JPEG, parts of it may look wrong: {}", source, decoder.message());
  if (info.output_components == 4) pixels = rgb_from_inverted_cmyk(pixels);
  return {pixels, jpeg_orientation(info)};
}

}  // namespace molar
