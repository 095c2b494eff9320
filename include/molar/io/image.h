/// Pictures in and out, as uint8 tensors; models see them as floats in [-1, 1].
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "molar/core/atomic_file.h"
#include "molar/core/tensor.h"

namespace molar {

/// Keyword -> UTF-8 text, in file order.
using PngText = std::vector<std::pair<std::string, std::string>>;

/// Whether a file's name says that it is a picture that read_image reads: .png, .jpg, .jpeg.
bool is_picture_name(const std::filesystem::path& path);

/// Reads PNG or JPEG as RGB uint8 [H, W, 3], turned upright by its EXIF or XMP orientation: the
/// pixels of diffusers' load_image, bit for bit. So alpha is dropped, not blended; of 16-bit
/// colours the high byte stays, and 16-bit grey is clipped at 255 (with a warning). Throws
/// InputError: missing, another format (named), broken, more than 16384 pixels a side or
/// 178,956,970 in all (where Pillow stops).
Tensor read_image(const std::filesystem::path& path);
/// The same as one channel, uint8 [H, W]: Pillow's convert("L").
Tensor read_mask(const std::filesystem::path& path);

/// Every tEXt, zTXt and iTXt chunk. Throws InputError for a file that is no PNG or is broken, or
/// whose texts need more than 64 MiB.
PngText read_png_text(const std::filesystem::path& path);

/// pixels: uint8 [H, W, 3]. Text is written as tEXt where it is Latin-1, else as iTXt; keyword
/// "molar" always as iTXt. What a chunk cannot hold (NUL, broken UTF-8) becomes U+FFFD. Returns the
/// PNG's bytes. Throws Error for a keyword that PNG does not allow (1 to 79 printable ASCII
/// characters).
std::string encode_png(const Tensor& pixels, const PngText& text);

/// pixels: uint8 [H, W, 3]; quality: 1 to 100 as libjpeg counts. Returns the JPEG's bytes. Throws
/// Error for more than 65500 pixels a side.
std::string encode_jpeg(const Tensor& pixels, int quality);

/// Pillow's filters of the same names.
enum class ResizeFilter { kBilinear, kBicubic, kLanczos };

/// uint8 [H, W, C] or [H, W] resized to height x width as Pillow does, bit for bit.
Tensor resize(const Tensor& pixels, int64_t height_px, int64_t width_px,
              ResizeFilter filter = ResizeFilter::kLanczos);

}  // namespace molar
