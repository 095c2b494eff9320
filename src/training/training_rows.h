/// Pictures as rows of a training pass: in which order they come, and what noise makes of them.
#pragma once

#include <string>
#include <vector>

#include "molar/core/random.h"
#include "molar/models/autoencoder_kl.h"
#include "molar/training/noise_objective.h"
#include "molar/training/picture_latents.h"
#include "molar/training/training_order.h"

namespace molar {

/// One row of a pass. Points into a PictureSet.
struct TrainingRow {
  const PictureLatents* latents;
  const std::string* caption;
};

/// Encoded pictures, their captions and the order in which a training sees them.
class PictureSet {
 public:
  /// One caption for each picture.
  PictureSet(std::vector<PictureLatents> latents, std::vector<std::string> captions,
             EpochOrder order);

  /// The rows of pass number `pass`. Valid as long as the set.
  std::vector<TrainingRow> rows(int64_t pass, int64_t batch_size);

 private:
  std::vector<PictureLatents> latents_;
  std::vector<std::string> captions_;
  EpochOrder order_;
};

/// Captions of all pictures, in order.
std::vector<std::string> captions_of(const std::vector<TrainingPicture>& pictures);

/// Rows with noise at random timesteps: what the UNet gets and what it is to tell.
struct NoisyRows {
  Tensor latents, noise, noisy;  ///< [B, C, h, w], float32
  Tensor timesteps;              ///< int64 [B]

  /// Rows [first, first + count), as views.
  NoisyRows narrow(int64_t first, int64_t count) const;
};

/// Draws, in this order and only what is needed: with `flip` uniform [B] (mirrored below 1/2), the
/// sample of the latents, the noise, the timesteps. See Note [Order of randomness].
NoisyRows draw_noisy_rows(const std::vector<TrainingRow>& rows, bool flip, AutoencoderKL scaling,
                          const NoiseObjective& objective, at::Device device, RandomSource& random);

}  // namespace molar
