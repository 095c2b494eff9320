#include "molar/pipeline/initial_latents.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/io/image.h"

namespace molar {
namespace {

/// uint8 [H, W, C] or [H, W] -> float [1, C, H, W] in [0, 1], at the request's size.
Tensor resized(const Tensor& pixels, const GenerationRequest& request) {
  const Tensor sized = resize_lanczos(pixels, *request.height_px, *request.width_px).to(torch::kFloat32) / 255.0;
  return (sized.dim() == 2 ? sized.unsqueeze(0) : sized.permute({2, 0, 1})).unsqueeze(0).contiguous();
}

}  // namespace

SourcePictures read_source_pictures(const GenerationRequest& request) {
  SourcePictures pictures;
  if (!request.init_image.empty()) pictures.image = read_image(request.init_image);
  if (!request.mask.empty()) pictures.mask = read_mask(request.mask);
  return pictures;
}

size_t first_evaluation(const GenerationRequest& request, const Scheduler& scheduler) {
  if (request.init_image.empty()) return 0;
  const double strength = request.strength.value_or(1.0);
  const auto taken =
      std::min(static_cast<int64_t>(static_cast<double>(request.num_steps) * strength), request.num_steps);
  const auto first = static_cast<size_t>((request.num_steps - taken) * scheduler.order());
  if (taken < 1 || first >= scheduler.timesteps().size())
    throw ConfigError(fmt::format("--strength {} of {} steps leaves no step to take; wanted at least {}", strength,
                                  request.num_steps, 1.0 / static_cast<double>(request.num_steps)));
  return first;
}

InitialLatents make_initial_latents(const GenerationRequest& request, const SourcePictures& pictures,
                                    const Scheduler& scheduler, const PictureCodec& codec,
                                    const LatentLayout& layout, RandomSource& random) {
  const auto draw = [&] { return random.randn(layout.shape).to(layout.device); };
  InitialLatents initial;
  if (!pictures.image.defined()) {
    initial.latents = draw() * scheduler.init_noise_sigma();
    return initial;
  }
  const bool inpainting = pictures.mask.defined();
  const bool concatenates = inpainting && layout.unet_channels == 9;
  const bool from_noise = inpainting && request.strength.value_or(1.0) == 1.0;
  const Tensor image = (resized(pictures.image, request) * 2.0 - 1.0).to(layout.device);

  Tensor image_latents;
  if (!concatenates || !from_noise) image_latents = codec.encode(image, draw());
  const Tensor noise = draw();
  initial.latents = from_noise ? noise * scheduler.init_noise_sigma()
                               : scheduler.add_noise(image_latents, noise, first_evaluation(request, scheduler));
  if (!inpainting) return initial;

  // Drawn for 4 channels too: diffusers encodes the masked picture there and does not use it.
  const Tensor masked_draw = draw();
  const Tensor pixel_mask = (resized(pictures.mask, request) >= 0.5).to(torch::kFloat32).to(layout.device);
  InpaintInputs& inpaint = initial.inpaint.emplace();
  inpaint.mask = at::upsample_nearest2d(pixel_mask, {layout.shape[2], layout.shape[3]});
  if (concatenates) {
    inpaint.masked_image_latents = codec.encode(image * (pixel_mask < 0.5), masked_draw);
  } else {
    inpaint.image_latents = image_latents;
    inpaint.noise = noise;
  }
  return initial;
}

}  // namespace molar
