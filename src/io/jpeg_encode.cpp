#include <ATen/ATen.h>
#include <fmt/format.h>

// jpeglib.h needs these two before it.
#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "molar/core/error.h"
#include "molar/io/image.h"

namespace molar {
namespace {

/// libjpeg's state; see Note [Jumps in C libraries].
class JpegEncoder {
 public:
  JpegEncoder() {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = &on_error;
  }
  ~JpegEncoder() {
    jpeg_destroy_compress(&info_);
    std::free(bytes_);
  }
  JpegEncoder(const JpegEncoder&) = delete;
  JpegEncoder& operator=(const JpegEncoder&) = delete;

  /// false: `message` says why. rows: `height` rows of `width` RGB pixels.
  bool encode(const uint8_t* pixels, unsigned width, unsigned height, int quality) {
    if (setjmp(jump_) != 0) return false;
    jpeg_create_compress(&info_);
    jpeg_mem_dest(&info_, &bytes_, &size_);
    info_.image_width = width;
    info_.image_height = height;
    info_.input_components = 3;
    info_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info_);
    jpeg_set_quality(&info_, quality, TRUE);
    info_.optimize_coding = TRUE;
    jpeg_start_compress(&info_, TRUE);
    while (info_.next_scanline < height) {
      auto* row = const_cast<uint8_t*>(pixels) + size_t{info_.next_scanline} * width * 3;
      jpeg_write_scanlines(&info_, &row, 1);
    }
    jpeg_finish_compress(&info_);
    return true;
  }

  std::string bytes() const { return {reinterpret_cast<const char*>(bytes_), size_}; }
  const char* message() const { return message_; }

 private:
  static void on_error(j_common_ptr info) {
    auto& self = *static_cast<JpegEncoder*>(info->client_data);
    info->err->format_message(info, self.message_);
    std::longjmp(self.jump_, 1);
  }

  jpeg_compress_struct info_{};
  jpeg_error_mgr errors_{};
  std::jmp_buf jump_{};
  char message_[JMSG_LENGTH_MAX] = "";
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

std::string encode_jpeg(const Tensor& pixels, int quality) {
  check_shape(pixels, {-1, -1, 3}, "encode_jpeg");
  const Tensor rows = pixels.to(at::kByte).contiguous();
  JpegEncoder encoder;
  if (!encoder.encode(rows.const_data_ptr<uint8_t>(), static_cast<unsigned>(rows.size(1)),
                      static_cast<unsigned>(rows.size(0)), quality))
    throw Error(fmt::format("cannot write a JPEG of {} x {} pixels: {}", rows.size(1), rows.size(0),
                            encoder.message()));
  return encoder.bytes();
}

}  // namespace molar
