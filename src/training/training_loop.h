/// The loop that every training runs in.
#pragma once

#include <functional>

#include "molar/training/picture_training.h"
#include "molar/training/picture_training_options.h"
#include "molar/training/stepwise_trainer.h"
#include "run_files.h"

namespace molar {

/// Goes on from the run's checkpoint, if any, and takes every step that is left; writes a
/// checkpoint at the start, every `checkpoint_every` steps (0: none) and where it is stopped.
/// `after_step`: after what the context is told. Throws what the trainer throws, FileError,
/// StoppedError.
void run_training(StepwiseTrainer& trainer, const RunFiles& files, int64_t checkpoint_every,
                  const TrainingContext& context,
                  const std::function<void(const TrainingStep&)>& after_step = {});

/// The same for a training on pictures, with samples where the options want some and the result at
/// the end. `content`: what is learnt, as it is now.
void run_picture_training(StepwiseTrainer& trainer, const RunFiles& files,
                          const PictureTrainingOptions& options, const TrainingContext& context,
                          const std::function<LoraFileContent()>& content,
                          const SampleSink& on_sample);

}  // namespace molar
