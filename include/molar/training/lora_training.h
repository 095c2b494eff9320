/// A whole training of a LoRA: pictures in, file out; can be killed at any moment and continued.
#pragma once

#include <filesystem>
#include <functional>

#include "molar/adapters/lora_writer.h"
#include "molar/io/checkpoint.h"
#include "molar/training/lora_trainer.h"
#include "molar/training/lora_training_options.h"

namespace molar {

/// Each --sample-every steps and after the last: the LoRA as it would be written now.
using SampleSink = std::function<void(int64_t step, const LoraFileContent&)>;

struct LoraTrainingResult {
  std::filesystem::path path;
  bool already_finished = false;  ///< an earlier run did everything; nothing was done now
  int64_t num_steps = 0;
  int64_t num_layers = 0, num_parameters = 0;
};

/// "dog.safetensors" -> "dog.checkpoint.safetensors": where an unfinished training keeps its
/// factors, moments and step, until the LoRA is written.
std::filesystem::path checkpoint_path(const std::filesystem::path& output);

/// Note [Resuming]. The metadata of LoRA and checkpoint hold the run's description: the options
/// that decide the result, digests of pictures, captions and model. The same run again: where the
/// LoRA is there, nothing is left to do; else the checkpoint is gone on from; else it starts.
/// Another run under the same name is refused, unless `start_anew`.
///
/// Throws ConfigError: options, or the name belongs to another run; InputError: pictures;
/// FileError; PictureError: NaN; StoppedError after a cancellation, with a checkpoint written.
LoraTrainingResult train_lora(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                              const TrainingContext& context, const SampleSink& on_sample);

}  // namespace molar
