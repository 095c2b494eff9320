#include "molar/training/lora_training.h"

#include "run_description.h"
#include "training_loop.h"

namespace molar {
namespace {

TrainingPictures list_all_pictures(const LoraTrainingOptions& options) {
  TrainingPictures pictures;
  pictures.instance = list_pictures(options.instance, option_names_of("instance"));
  if (options.classes) pictures.classes = list_pictures(*options.classes, option_names_of("class"));
  return pictures;
}

}  // namespace

TrainingResult train_lora(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                          const TrainingContext& context, const SampleSink& on_sample) {
  options.validate();
  const TrainingPictures pictures = list_all_pictures(options);
  const Json description = describe_run(options, checkpoint, pictures);
  const RunFiles files(options.output, description, options.start_anew);
  if (files.finished()) {
    files.remove_checkpoint();
    return {.path = options.output, .already_finished = true, .num_steps = options.num_steps};
  }

  LoraTrainer trainer(options, checkpoint, pictures, context.progress, context.cancellation);
  const auto content = [&] {
    LoraFileContent file = spell_lora(trainer.lora(), checkpoint.family, options.format,
                                      lora_metadata(options, checkpoint, pictures, description));
    for (auto& [name, tensor] : file.tensors)
      if (tensor.dim() > 0) tensor = tensor.to(options.save_dtype);  // not alpha
    return file;
  };

  run_picture_training(trainer, files, options, context, content, on_sample);
  return {.path = options.output,
          .num_steps = options.num_steps,
          .num_layers = static_cast<int64_t>(trainer.lora().layers.size()),
          .num_parameters = trainer.num_parameters()};
}

}  // namespace molar
