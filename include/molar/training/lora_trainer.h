/// One training of one LoRA, step by step: DreamBooth (Ruiz et al. 2022, arXiv:2208.12242) with
/// LoRA.
#pragma once

#include <memory>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/core/cancellation.h"
#include "molar/core/progress.h"
#include "molar/io/checkpoint.h"
#include "molar/training/lora_training_options.h"
#include "molar/training/picture_folder.h"

namespace molar {

/// What is learnt from: read by list_pictures.
struct TrainingPictures {
  std::vector<TrainingPicture> instance, classes;
};

/// One update of the factors.
struct TrainingStep {
  int64_t step = 0;  ///< counted from 1
  double loss = 0;   ///< mean over the step's passes, before the update
  double learning_rate = 0;
  double grad_norm = 0;  ///< before clipping
};

/// Call order: (restore)? -> (advance | state | lora)*. The same options, pictures and model give
/// the same steps on every run, however often it was interrupted (Note [Order of randomness]).
///
/// The loss of a pass: the mean over its instance rows of NoiseObjective::row_losses, plus
/// prior_weight times the mean over its class rows.
class LoraTrainer {
 public:
  /// Encodes the pictures and loads what is trained on. `checkpoint` must outlive this. Throws
  /// FileError for an inpainting model, InputError for files that are no pictures, StoppedError.
  LoraTrainer(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
              const TrainingPictures& pictures, ProgressSink& progress,
              const CancellationToken& cancellation);
  ~LoraTrainer();

  /// Throws PictureError where loss or gradient is not finite: nothing is changed then.
  TrainingStep advance();
  int64_t num_steps_done() const;

  /// The factors as they are now, as views.
  LoraWeights lora() const;
  int64_t num_parameters() const;
  /// Factors and moments of AdamW after num_steps_done(), for `restore` in a later run.
  StateDict state() const;
  /// Throws FileError where the state is another training's.
  void restore(const StateDict& state, int64_t num_steps_done);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The side of the square pictures: what was asked for, else what the model was made for. Throws
/// ConfigError for a side that is no whole number of latents.
int64_t resolve_resolution(const LoraTrainingOptions& options, const Checkpoint& checkpoint);

}  // namespace molar
