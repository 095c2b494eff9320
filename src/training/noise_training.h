/// Steps of every training that learns to tell noise in pictures apart: passes, gradients, updates.
/// What is learnt is its caller's, attached beside the frozen model.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "molar/training/picture_training_options.h"
#include "molar/training/stepwise_trainer.h"
#include "named_adamw.h"
#include "training_model.h"

namespace molar {

/// Pictures that every pass takes `batch_size` of.
struct PictureGroup {
  std::vector<TrainingPicture> pictures;
  RandomStream order;
  double weight = 1;  ///< of its mean loss in the pass's
};

/// Call order: learn -> (restore)? -> (advance | state)*.
class NoiseTraining {
 public:
  /// Encodes the pictures and loads the model. `checkpoint` must outlive this. `trains_text`: see
  /// TrainingModelOptions. Throws FileError for an inpainting model, InputError for files that are
  /// no pictures, StoppedError.
  NoiseTraining(const PictureTrainingOptions& options, bool trains_text,
                const Checkpoint& checkpoint, const std::vector<PictureGroup>& groups,
                ProgressSink& progress, const CancellationToken& cancellation);

  TrainingModel& model() { return model_; }
  /// What the steps update.
  void learn(const NamedParameters& parameters);

  /// The loss of a pass: the sum over groups of weight times the mean over the group's rows of
  /// NoiseObjective::row_losses. Throws as StepwiseTrainer::advance.
  TrainingStep advance();
  int64_t num_steps() const { return options_.num_steps; }
  int64_t num_steps_done() const { return num_steps_done_; }
  StateDict state() const { return optimizer_->state(); }
  void restore(const StateDict& state, int64_t num_steps_done) {
    optimizer_->restore(state);
    num_steps_done_ = num_steps_done;
  }

 private:
  struct EncodedGroup {
    PictureSet pictures;
    double weight;
  };
  double run_pass(int64_t pass);

  PictureTrainingOptions options_;
  TrainingModel model_;
  std::vector<EncodedGroup> groups_;
  std::optional<NamedAdamW> optimizer_;
  int64_t num_steps_done_ = 0;
};

}  // namespace molar
