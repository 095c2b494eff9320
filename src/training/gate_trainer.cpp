#include "gate_trainer.h"

namespace molar {

GateTrainer::GateTrainer(const GateTrainingOptions& options, const Checkpoint& checkpoint,
                         const std::vector<Expert>& experts,
                         const std::vector<TrainingPicture>& pictures, ProgressSink& progress,
                         const CancellationToken& cancellation)
    : training_(options, /*trains_text=*/false, checkpoint, {{pictures, RandomStream::kInstances}},
                progress, cancellation),
      gates_(training_.model().unet_layers(), experts, options.learnt, options.seed) {
  training_.learn(gates_.parameters());
}

TrainingStep GateTrainer::advance() {
  TrainingStep step = training_.advance();
  step.terms = gates_.take_statistics();
  return step;
}

}  // namespace molar
