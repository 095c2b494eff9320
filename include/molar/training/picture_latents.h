/// The training pictures as the VAE sees them, encoded once.
#pragma once

#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/device.h"
#include "molar/core/progress.h"
#include "molar/io/checkpoint.h"
#include "molar/training/picture_folder.h"

namespace molar {

/// One picture's distribution of latents, and of its mirror image where that was asked for.
struct PictureLatents {
  Tensor mean, logvar;                  ///< [C, h, w], float32, unscaled
  Tensor flipped_mean, flipped_logvar;  ///< undefined without flips
  Tensor time_ids;                      ///< [6]: SDXL's original size, crop corner, target size
};

struct EncodePicturesOptions {
  int64_t side_px = 0;
  bool flip = false;
  at::Device device{at::kCPU};
};

/// Reads and encodes every picture, in float32. The VAE is in memory only meanwhile.
/// Throws InputError for a file that is no picture, StoppedError after a cancellation.
std::vector<PictureLatents> encode_pictures(const std::vector<TrainingPicture>& pictures,
                                            const Component& vae,
                                            const EncodePicturesOptions& options,
                                            ProgressSink& progress,
                                            const CancellationToken& cancellation);

}  // namespace molar
