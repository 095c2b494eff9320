/// Pictures in and out: uint8 files <-> float tensors in [-1, 1].
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

/// Reads PNG, JPEG or BMP as RGB uint8 [H, W, 3]; alpha is dropped onto white, 16 bits are reduced.
/// Throws InputError: missing, unreadable, larger than 16384 pixels a side.
Tensor read_image(const std::filesystem::path& path);
/// The same as one channel, uint8 [H, W] (luma as PIL's convert("L")).
Tensor read_mask(const std::filesystem::path& path);

/// Every tEXt, zTXt and iTXt chunk. Throws InputError for a file that is no PNG or is broken.
PngText read_png_text(const std::filesystem::path& path);

/// pixels: uint8 [H, W, 3]. Text is written as tEXt where it is Latin-1, else as iTXt;
/// keyword "molar" always as iTXt. Returns the PNG's bytes.
std::string encode_png(const Tensor& pixels, const PngText& text);

/// uint8 [H, W, C] or [H, W] resized to height x width with Pillow's Lanczos, bit for bit.
Tensor resize_lanczos(const Tensor& pixels, int64_t height_px, int64_t width_px);

}  // namespace molar
