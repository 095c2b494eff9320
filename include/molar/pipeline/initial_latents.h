/// Where sampling starts: noise, a noised picture, or a picture with a hole.
#pragma once

#include <optional>
#include <vector>

#include "molar/core/random.h"
#include "molar/pipeline/denoise_loop.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/picture_codec.h"

namespace molar {

/// Start of one picture.
struct InitialLatents {
  Tensor latents;  ///< [1, C, H, W], float32, on the device
  std::optional<InpaintInputs> inpaint;
};

/// Picture files of a request, read once for all its pictures.
struct SourcePictures {
  Tensor image;  ///< uint8 [H, W, 3]; undefined: text to image
  Tensor mask;   ///< uint8 [H, W]; undefined: no inpainting
};

/// Throws InputError for files that are missing or no pictures.
SourcePictures read_source_pictures(const GenerationRequest& request);

struct InitialLatentsOptions {
  std::vector<int64_t> shape;   ///< of the latents: [1, C, H, W]
  int64_t unet_channels = 4;    ///< 4 blends, 9 concatenates
  size_t first_evaluation = 0;  ///< the noise level that a picture is brought to
  at::Device device{at::kCPU};
};

/// Draws from `random` in diffusers' order (text to image: noise; img2img: VAE sample, noise;
/// inpainting: VAE sample where the picture is needed, noise, VAE sample of the masked picture).
/// `request` has its sizes resolved; `codec` works only where there is a picture.
InitialLatents make_initial_latents(const GenerationRequest& request,
                                    const SourcePictures& pictures, const Scheduler& scheduler,
                                    const PictureCodec& codec, const InitialLatentsOptions& options,
                                    RandomSource& random);

}  // namespace molar
