/// One training of one LoRA, step by step: DreamBooth (Ruiz et al. 2022, arXiv:2208.12242) with
/// LoRA.
#pragma once

#include <memory>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/io/checkpoint.h"
#include "molar/training/lora_training_options.h"
#include "molar/training/picture_folder.h"
#include "molar/training/stepwise_trainer.h"

namespace molar {

/// What is learnt from: read by list_pictures.
struct TrainingPictures {
  std::vector<TrainingPicture> instance, classes;
};

/// The loss of a pass: the mean over its instance rows of NoiseObjective::row_losses, plus
/// prior_weight times the mean over as many class rows.
class LoraTrainer : public StepwiseTrainer {
 public:
  /// Encodes the pictures and loads what is trained on. `checkpoint` must outlive this. Throws
  /// FileError for an inpainting model, InputError for files that are no pictures, StoppedError.
  LoraTrainer(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
              const TrainingPictures& pictures, ProgressSink& progress,
              const CancellationToken& cancellation);
  ~LoraTrainer() override;

  TrainingStep advance() override;
  bool finished() const override;
  int64_t num_steps() const override;
  int64_t num_steps_done() const override;
  StateDict state() const override;
  void restore(const StateDict& state, int64_t num_steps_done) override;

  /// The factors as they are now, as views.
  LoraWeights lora() const;
  int64_t num_parameters() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace molar
