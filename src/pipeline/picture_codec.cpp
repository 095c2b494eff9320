#include "molar/pipeline/picture_codec.h"

#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include "component_pages.h"
#include "molar/core/error.h"
#include "molar/core/finite.h"
#include "molar/models/model_loader.h"

namespace molar {
PictureCodec::PictureCodec(const Component& vae, const PictureCodecOptions& options)
    : vae_(vae), options_(options) {}

Tensor PictureCodec::encode(const Tensor& image, const Tensor& noise) const {
  // The sample's noise decides the picture, so the encoder is exact whatever the model computes in.
  AutoencoderKL vae = acquire(at::kFloat);
  Tensor latents = vae->to_scaled_latents(vae->encode(image).sample(noise));
  release();
  return latents;
}

AutoencoderKL PictureCodec::acquire(at::ScalarType dtype) const {
  AutoencoderKL vae = loaded_;
  if (!vae || loaded_dtype_ != dtype) {
    vae = load_vae(vae_, {.device = options_.compute.device, .dtype = dtype});
    vae->set_tiling(options_.tiling);
  }
  if (options_.keep_loaded) {
    loaded_ = vae;
    loaded_dtype_ = dtype;
  }
  return vae;
}

void PictureCodec::release() const {
  if (!options_.keep_loaded) release_pages(vae_);
}

Tensor PictureCodec::decode_pixels(const Tensor& latents, at::ScalarType dtype) const {
  AutoencoderKL vae = acquire(dtype);
  Tensor pixels = vae->decode(vae->from_scaled_latents(latents).to(dtype)).to(at::kFloat);
  release();
  return pixels;  // [1, 3, H, W]
}

Tensor PictureCodec::decode(const Tensor& latents) const {
  if (!is_finite(latents))
    throw PictureError(
        "the latents became NaN or infinite while sampling; try --dtype f32, a lower --cfg-scale "
        "or another --sampler");
  const at::ScalarType dtype = options_.compute.dtype;
  Tensor pixels = decode_pixels(latents, options_.upcast ? at::kFloat : dtype);
  if (!is_finite(pixels) && dtype != at::kFloat && !options_.upcast) {
    spdlog::warn("the VAE overflowed in {}; decoded again in float32", dtype_name(dtype));
    pixels = decode_pixels(latents, at::kFloat);
  }
  if (!is_finite(pixels))
    throw PictureError(
        "the VAE made NaN or infinite pixels from finite latents; is the VAE the model's own? "
        "(--vae)");
  const Tensor grey_levels = (pixels / 2 + 0.5)
                                 .clamp(0, 1)
                                 .mul(255)
                                 .round()
                                 .to(at::kByte)
                                 .squeeze(0)
                                 .permute({1, 2, 0})
                                 .contiguous()
                                 .cpu();
  const Tensor colours = grey_levels.view({-1, 3});
  if (std::get<0>(colours.max(0)).equal(std::get<0>(colours.min(0))))
    throw PictureError(
        "the picture has a single colour; try --dtype f32, another --sampler or a lower "
        "--cfg-scale");
  return grey_levels;
}

}  // namespace molar
