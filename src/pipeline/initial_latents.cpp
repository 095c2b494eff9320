#include "molar/pipeline/initial_latents.h"

#include <torch/torch.h>

#include "molar/io/image.h"

namespace molar {
namespace {

/// uint8 [H, W, C] or [H, W] -> float [1, C, H, W] in [0, 1], at the request's size.
Tensor resized(const Tensor& pixels, const GenerationRequest& request) {
  const Tensor sized =
      resize(pixels, *request.height_px, *request.width_px).to(torch::kFloat32) / 255.0;
  return (sized.dim() == 2 ? sized.unsqueeze(0) : sized.permute({2, 0, 1}))
      .unsqueeze(0)
      .contiguous();
}

}  // namespace

SourcePictures read_source_pictures(const GenerationRequest& request) {
  SourcePictures pictures;
  if (!request.init_image.empty()) pictures.image = read_image(request.init_image);
  if (!request.mask.empty()) pictures.mask = read_mask(request.mask);
  return pictures;
}

InitialLatents make_initial_latents(const GenerationRequest& request,
                                    const SourcePictures& pictures, const Scheduler& scheduler,
                                    const PictureCodec& codec, const InitialLatentsOptions& options,
                                    RandomSource& random) {
  const auto draw = [&] { return random.randn(options.shape).to(options.device); };
  InitialLatents initial;
  if (!pictures.image.defined()) {
    initial.latents = draw() * scheduler.init_noise_sigma();
    return initial;
  }
  const bool inpainting = pictures.mask.defined();
  const bool concatenates = inpainting && options.unet_channels == 9;
  const bool from_noise = inpainting && request.strength.value_or(1.0) == 1.0;
  const Tensor image = (resized(pictures.image, request) * 2.0 - 1.0).to(options.device);

  Tensor image_latents;
  if (!concatenates || !from_noise) image_latents = codec.encode(image, draw());
  const Tensor noise = draw();
  initial.latents = from_noise
                        ? noise * scheduler.init_noise_sigma()
                        : scheduler.add_noise(image_latents, noise, options.first_evaluation);
  if (!inpainting) return initial;

  // Drawn for 4 channels too: diffusers encodes the masked picture there and does not use it.
  const Tensor masked_draw = draw();
  const Tensor pixel_mask =
      (resized(pictures.mask, request) >= 0.5).to(torch::kFloat32).to(options.device);
  InpaintInputs& inpaint = initial.inpaint.emplace();
  inpaint.mask = at::upsample_nearest2d(pixel_mask, {options.shape[2], options.shape[3]});
  if (concatenates) {
    inpaint.masked_image_latents = codec.encode(image * (pixel_mask < 0.5), masked_draw);
  } else {
    inpaint.image_latents = image_latents;
    inpaint.noise = noise;
  }
  return initial;
}

}  // namespace molar
