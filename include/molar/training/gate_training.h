/// A whole training of gates: experts and pictures in, gates.safetensors out.
#pragma once

#include "molar/io/checkpoint.h"
#include "molar/training/gate_training_options.h"
#include "molar/training/picture_training.h"
#include "molar/training/stepwise_trainer.h"

namespace molar {

/// See Note [Resuming] in picture_training.h. Throws as train_lora, and FitError for experts that
/// do not fit the model or each other.
TrainingResult train_gates(const GateTrainingOptions& options, const Checkpoint& checkpoint,
                           const TrainingContext& context, const SampleSink& on_sample);

}  // namespace molar
