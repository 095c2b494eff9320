#include "molar/training/gate_training.h"

#include "gate_trainer.h"
#include "molar/adapters/layer_skeleton.h"
#include "molar/io/hash.h"
#include "run_description.h"
#include "training_loop.h"

namespace molar {
namespace {

std::vector<TrainingPicture> list_all_pictures(const std::vector<PictureSource>& sources) {
  std::vector<TrainingPicture> all;
  for (const PictureSource& source : sources)
    for (TrainingPicture& picture : list_pictures(source, option_names_of("instance")))
      all.push_back(std::move(picture));
  return all;
}

Json describe_experts(const std::vector<Expert>& experts) {
  Json described = Json::array();
  for (const Expert& expert : experts)
    described.push_back(
        {{"name", expert.name}, {"sha256", sha256_safetensors_data(expert.weights.path)}});
  return described;
}

}  // namespace

TrainingResult train_gates(const GateTrainingOptions& options, const Checkpoint& checkpoint,
                           const TrainingContext& context, const SampleSink& on_sample) {
  options.validate();
  const LayerSkeleton skeleton(checkpoint);
  const std::vector<Expert> experts =
      load_experts(options.folder, options.experts, skeleton.layers());
  const std::vector<TrainingPicture> pictures = list_all_pictures(options.pictures);
  Json description = options.to_json();
  description["training"] = "gates";
  description["experts"] = describe_experts(experts);
  description["instance-images"] = pictures_digest(pictures);
  add_model(description, options.resolution_px, checkpoint);
  const RunFiles files(options.output, description, options.start_anew);
  if (files.finished()) {
    files.remove_checkpoint();
    return {.path = options.output, .already_finished = true, .num_steps = files.num_steps_taken()};
  }

  GateTrainer trainer(options, checkpoint, experts, pictures, context.progress,
                      context.cancellation);
  const auto content = [&] {
    LoraFileContent file = spell_expert_gates(trainer.learnt().gates());
    file.metadata[kDescriptionKey] = description.dump();
    return file;
  };
  run_picture_training(trainer, files, options, context, content, on_sample);
  TrainingResult result{.path = options.output,
                        .num_steps = trainer.num_steps_done(),
                        .num_layers = static_cast<int64_t>(experts.front().weights.layers.size())};
  for (const auto& [name, values] : trainer.learnt().parameters())
    result.num_parameters += values.numel();
  return result;
}

}  // namespace molar
