#include "molar/training/picture_latents.h"

#include <torch/torch.h>

#include "molar/models/model_loader.h"

namespace molar {

std::vector<PictureLatents> encode_pictures(const std::vector<TrainingPicture>& pictures,
                                            const Component& vae_component,
                                            const EncodePicturesOptions& options,
                                            ProgressSink& progress,
                                            const CancellationToken& cancellation) {
  const torch::NoGradGuard no_grad;
  AutoencoderKL vae = load_vae(vae_component, {.device = options.device, .dtype = at::kFloat});
  const auto encode = [&](const Tensor& pixels) {
    const LatentDistribution latents = vae->encode(pixels.unsqueeze(0).to(options.device));
    return LatentDistribution{latents.mean.squeeze(0), latents.logvar.squeeze(0)};
  };
  std::vector<PictureLatents> encoded;
  progress.begin("encoding pictures", static_cast<int64_t>(pictures.size()));
  for (const TrainingPicture& picture : pictures) {
    cancellation.stop_here_if_requested();
    const SquarePicture square = read_square_picture(picture.path, options.side_px);
    PictureLatents& latents = encoded.emplace_back();
    const LatentDistribution own = encode(square.pixels);
    latents.mean = own.mean;
    latents.logvar = own.logvar;
    if (options.flip) {
      const LatentDistribution mirrored = encode(square.pixels.flip({2}));
      latents.flipped_mean = mirrored.mean;
      latents.flipped_logvar = mirrored.logvar;
    }
    latents.time_ids =
        torch::tensor({square.original_height_px, square.original_width_px, square.crop_top_px,
                       square.crop_left_px, options.side_px, options.side_px},
                      torch::kFloat32)
            .to(options.device);
    progress.advance();
  }
  progress.end();
  return encoded;
}

}  // namespace molar
