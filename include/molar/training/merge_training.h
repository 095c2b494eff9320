/// Whole trainings of merges: LoRAs and their pictures in, file out; can be killed at any moment
/// and continued, as Note [Resuming] in picture_training.h has it.
#pragma once

#include "molar/io/checkpoint.h"
#include "molar/training/merge_training_options.h"
#include "molar/training/stepwise_trainer.h"

namespace molar {

/// Writes coefficients of the two files: see MergeCoefficients. Throws ConfigError, InputError,
/// FileError, FitError, PictureError: NaN; StoppedError after a cancellation, with a checkpoint
/// written.
TrainingResult train_ziplora(const ZiploraOptions& options, const Checkpoint& checkpoint,
                             const TrainingContext& context);

/// Writes a hypernetwork in the published layout. Throws as train_ziplora.
TrainingResult train_hypernet(const HypernetOptions& options, const Checkpoint& checkpoint,
                              const TrainingContext& context);

}  // namespace molar
