/// A frozen model as trainings use it: captions and noisy latents in, the UNet's prediction out.
/// What is learnt is attached beside its layers.
#pragma once

#include <string>
#include <vector>

#include "molar/adapters/model_layers.h"
#include "molar/models/unet_2d_condition.h"
#include "molar/training/caption_encoder.h"
#include "training_rows.h"

namespace molar {

struct TrainingModelOptions {
  ComputeOptions compute;
  bool gradient_checkpointing = false;
  bool trains_text = false;  ///< the encoders stay in memory, gradients flow through them
  std::optional<double> min_snr_gamma;
};

class TrainingModel {
 public:
  /// Loads the text encoders and checks the parts against each other; `load_unet` brings the rest,
  /// so that pictures can be encoded in between. `captions`: every caption there is. `checkpoint`
  /// must outlive this. Throws FileError, also for an inpainting model; InputError for a caption
  /// that is not UTF-8; StoppedError.
  TrainingModel(const Checkpoint& checkpoint, const TrainingModelOptions& options,
                const std::vector<std::string>& captions, ProgressSink& progress,
                const CancellationToken& cancellation);
  void load_unet();

  /// The layers that something may be attached to: the UNet's and, with trains_text, the encoders'.
  ModelLayers layers();
  LayerIndex unet_layers() { return layers().components.at("unet"); }
  NoisyRows draw(const std::vector<TrainingRow>& rows, bool flip, RandomSource& random) const;
  /// [B, C, h, w], float32.
  Tensor predict(const NoisyRows& noisy, const std::vector<TrainingRow>& rows);
  const NoiseObjective& objective() const { return objective_; }

 private:
  const Checkpoint& checkpoint_;
  TrainingModelOptions options_;
  UNet2DConditionModel unet_{nullptr};
  AutoencoderKL scaling_{nullptr};  // without weights: for to_scaled_latents alone
  CaptionEncoder captions_;
  NoiseObjective objective_;
};

/// The side of square training pictures: what was asked for, else what the model was made for.
/// Throws ConfigError for a side that is no whole number of latents.
int64_t resolve_resolution(std::optional<int64_t> resolution_px, const Checkpoint& checkpoint);

}  // namespace molar
