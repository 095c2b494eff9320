#include "molar/training/picture_latents.h"

#include <torch/torch.h>

#include <algorithm>

#include "molar/models/model_loader.h"

namespace molar {
namespace {

constexpr int64_t kPixelsAtOnce = 512 * 512;  // what the memory of a full-size VAE is made for

}  // namespace

std::vector<PictureLatents> encode_pictures(const std::vector<TrainingPicture>& pictures,
                                            const Component& vae_component,
                                            const EncodePicturesOptions& options,
                                            ProgressSink& progress,
                                            const CancellationToken& cancellation) {
  const torch::NoGradGuard no_grad;
  AutoencoderKL vae = load_vae(vae_component, {.device = options.device, .dtype = at::kFloat});
  const int64_t at_once = std::max<int64_t>(1, kPixelsAtOnce / (options.side_px * options.side_px));
  std::vector<PictureLatents> encoded;
  progress.begin("encoding pictures", static_cast<int64_t>(pictures.size()));
  for (auto at = pictures.begin(); at != pictures.end();) {
    cancellation.stop_here_if_requested();
    const auto count = std::min<std::ptrdiff_t>(at_once, pictures.end() - at);
    std::vector<Tensor> pixels, time_ids;
    for (const auto end = at + count; at != end; ++at) {
      const SquarePicture square = read_square_picture(at->path, options.side_px);
      pixels.push_back(square.pixels);
      time_ids.push_back(
          torch::tensor({square.original_height_px, square.original_width_px, square.crop_top_px,
                         square.crop_left_px, options.side_px, options.side_px},
                        torch::kFloat32));
    }
    const Tensor batch = torch::stack(pixels).to(options.device);
    const LatentDistribution own = vae->encode(batch);
    LatentDistribution mirrored;
    if (options.flip) mirrored = vae->encode(batch.flip({3}));
    for (int64_t i = 0; i < count; ++i) {
      PictureLatents& latents = encoded.emplace_back();
      latents.mean = own.mean[i];
      latents.logvar = own.logvar[i];
      if (options.flip) {
        latents.flipped_mean = mirrored.mean[i];
        latents.flipped_logvar = mirrored.logvar[i];
      }
      latents.time_ids = time_ids[static_cast<size_t>(i)].to(options.device);
      progress.advance();
    }
  }
  progress.end();
  return encoded;
}

}  // namespace molar
