/// One training of the gates of a set of experts, step by step: base and experts are frozen (Zhu et
/// al. 2024, arXiv:2410.23332, stage 3).
#pragma once

#include "molar/training/gate_training_options.h"
#include "noise_training.h"
#include "trainable_gates.h"

namespace molar {

class GateTrainer : public StepwiseTrainer {
 public:
  /// Encodes the pictures and loads what is trained on. `checkpoint` must outlive this. Throws
  /// FileError for an inpainting model, InputError for files that are no pictures, StoppedError.
  GateTrainer(const GateTrainingOptions& options, const Checkpoint& checkpoint,
              const std::vector<Expert>& experts, const std::vector<TrainingPicture>& pictures,
              ProgressSink& progress, const CancellationToken& cancellation);

  /// With the gates' statistics as terms.
  TrainingStep advance() override;
  bool finished() const override { return num_steps_done() >= num_steps(); }
  int64_t num_steps() const override { return training_.num_steps(); }
  int64_t num_steps_done() const override { return training_.num_steps_done(); }
  StateDict state() const override { return training_.state(); }
  void restore(const StateDict& state, int64_t num_steps_done) override {
    training_.restore(state, num_steps_done);
  }

  const TrainableGates& learnt() const { return gates_; }

 private:
  NoiseTraining training_;
  TrainableGates gates_;  // after the model: detaches from it first
};

}  // namespace molar
