/// Whole trainings of merges: LoRAs and their pictures in, file out; can be killed at any moment
/// and continued, as Note [Resuming] in picture_training.h has it.
#pragma once

#include "molar/io/checkpoint.h"
#include "molar/training/merge_training_options.h"
#include "molar/training/stepwise_trainer.h"

namespace molar {

struct MergeTrainingResult {
  std::filesystem::path path;
  bool already_finished = false;  ///< an earlier run did everything; nothing was done now
  int64_t num_steps = 0;          ///< that were taken; fewer than asked for where it ended early
};

/// Writes coefficients of the two files: see MergeCoefficients. Throws ConfigError, InputError,
/// FileError, FitError, PictureError: NaN; StoppedError after a cancellation, with a checkpoint
/// written.
MergeTrainingResult train_ziplora(const ZiploraOptions& options, const Checkpoint& checkpoint,
                                  const TrainingContext& context);

/// Writes a hypernetwork in the published layout. Throws as train_ziplora.
MergeTrainingResult train_hypernet(const HypernetOptions& options, const Checkpoint& checkpoint,
                                   const TrainingContext& context);

}  // namespace molar
