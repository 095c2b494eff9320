/// Pixels <-> scaled latents. The autoencoder is in memory only while it works, unless asked to
/// stay.
#pragma once

#include "molar/core/device.h"
#include "molar/core/tensor.h"
#include "molar/io/checkpoint.h"
#include "molar/models/autoencoder_kl.h"

namespace molar {

struct PictureCodecOptions {
  ComputeOptions compute;
  bool tiling = false;  ///< decode and encode in overlapping tiles
  bool upcast = false;  ///< decode in float32 whatever the models compute in (SDXL's force_upcast)
  bool keep_loaded = false;  ///< the autoencoder stays in memory between calls
};

class PictureCodec {
 public:
  /// `vae` must outlive the codec.
  PictureCodec(const Component& vae, const PictureCodecOptions& options);

  /// image: [1, 3, H, W] in [-1, 1]; noise: standard normal in latent shape (the sample of the
  /// posterior). Returns scaled latents [1, C, h, w], float32, on the device.
  Tensor encode(const Tensor& image, const Tensor& noise) const;

  /// latents: scaled, [1, C, h, w]. Returns uint8 [H, W, 3] on the CPU. Half precision that
  /// overflows is decoded again in float32, with a warning. Throws PictureError: NaN or infinite
  /// latents or pixels, or a picture of a single colour.
  Tensor decode(const Tensor& latents) const;

 private:
  Tensor decode_pixels(const Tensor& latents, at::ScalarType dtype) const;

  AutoencoderKL acquire(at::ScalarType dtype) const;
  void release() const;

  const Component& vae_;
  PictureCodecOptions options_;
  mutable AutoencoderKL loaded_{nullptr};  // only with keep_loaded
  mutable at::ScalarType loaded_dtype_ = at::kFloat;
};

}  // namespace molar
