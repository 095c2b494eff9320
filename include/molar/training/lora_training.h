/// A whole training of a LoRA: pictures in, file out; can be killed at any moment and continued.
#pragma once

#include "molar/io/checkpoint.h"
#include "molar/training/lora_trainer.h"
#include "molar/training/lora_training_options.h"
#include "molar/training/picture_training.h"

namespace molar {

/// See Note [Resuming]. Throws ConfigError: options, or the name belongs to another run;
/// InputError: pictures; FileError; PictureError: NaN; StoppedError after a cancellation, with a
/// checkpoint written.
TrainingResult train_lora(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                          const TrainingContext& context, const SampleSink& on_sample);

}  // namespace molar
