#include "molar/training/merge_training.h"

#include <fmt/format.h>

#include "hypernet_trainer.h"
#include "molar/adapters/layer_skeleton.h"
#include "molar/core/error.h"
#include "run_description.h"
#include "training_loop.h"
#include "ziplora_trainer.h"

namespace molar {
namespace {

TrainingResult finished_before(const RunFiles& files, const MergeTrainingOptions& options) {
  files.remove_checkpoint();
  return {.path = options.output, .already_finished = true, .num_steps = files.num_steps_taken()};
}

/// Throws ConfigError where the result would replace a LoRA that it is learnt from.
void refuse_inputs_as_output(const std::filesystem::path& output,
                             const std::vector<ListedLora>& loras) {
  std::error_code neither_exists;
  for (const ListedLora& lora : loras)
    if (std::filesystem::equivalent(output, lora.weights.path, neither_exists))
      throw ConfigError(
          fmt::format("-o '{}' is a LoRA that is learnt from; choose another -o", output.string()));
}

}  // namespace

TrainingResult train_ziplora(const ZiploraOptions& options, const Checkpoint& checkpoint,
                             const TrainingContext& context) {
  options.validate();
  const LayerSkeleton skeleton(checkpoint);
  const std::vector<ListedLora> pair{
      list_taught_lora(options.subject, skeleton.layers(), option_names_of("subject")),
      list_taught_lora(options.style, skeleton.layers(), option_names_of("style"))};
  refuse_inputs_as_output(options.run.output, pair);
  Json description = options.run.to_json();
  description["training"] = "ziplora";
  description["subject"] = describe_taught_lora(pair[0]);
  description["style"] = describe_taught_lora(pair[1]);
  add_model(description, options.run.resolution_px, checkpoint);
  const RunFiles files(options.run.output, description, options.run.start_anew);
  if (files.finished()) return finished_before(files, options.run);

  ZiploraTrainer trainer(options.run, checkpoint, pair, context.progress, context.cancellation);
  run_training(trainer, files, options.run.checkpoint_every, context);
  LoraFileContent content = trainer.coefficients().content();
  content.metadata[kDescriptionKey] = description.dump();
  files.write_result(std::move(content), trainer.num_steps_done());
  return {.path = options.run.output, .num_steps = trainer.num_steps_done()};
}

TrainingResult train_hypernet(const HypernetOptions& options, const Checkpoint& checkpoint,
                              const TrainingContext& context) {
  options.validate();
  const LayerSkeleton skeleton(checkpoint);
  const auto list = [&](const std::filesystem::path& folder, const char* option) {
    return list_taught_loras(folder, skeleton.layers(), option);
  };
  HypernetLoras loras{
      list(options.subjects, "--subjects"), list(options.styles, "--styles"), {}, {}, {}, {}};
  if (options.validates()) {
    loras.validation_subjects = list(options.validation_subjects, "--validation-subjects");
    loras.validation_styles = list(options.validation_styles, "--validation-styles");
  }
  if (!options.joint_images.empty()) {
    loras.joint = list_joint_pictures(options.joint_images, loras.subjects, loras.styles);
    if (options.validates())
      loras.validation_joint = list_joint_pictures(options.joint_images, loras.validation_subjects,
                                                   loras.validation_styles);
  }
  for (const std::vector<ListedLora>* group : loras.groups())
    refuse_inputs_as_output(options.run.output, *group);
  Json description = options.to_json();
  description["training"] = "hypernet";
  description["subjects"] = describe_taught_loras(loras.subjects);
  description["styles"] = describe_taught_loras(loras.styles);
  description["validation-subjects"] = describe_taught_loras(loras.validation_subjects);
  description["validation-styles"] = describe_taught_loras(loras.validation_styles);
  for (const auto& [key, lists] : {std::pair{"joint-images", &loras.joint},
                                   {"validation-joint-images", &loras.validation_joint}})
    for (const std::vector<TrainingPicture>& pictures : *lists)
      description[key].push_back(pictures.empty() ? "" : pictures_digest(pictures));
  add_model(description, options.run.resolution_px, checkpoint);
  const RunFiles files(options.run.output, description, options.run.start_anew);
  if (files.finished()) return finished_before(files, options.run);

  HypernetTrainer trainer(options, checkpoint, loras, context.progress, context.cancellation);
  run_training(trainer, files, options.run.checkpoint_every, context);
  files.write_result(
      {trainer.network(), {{"molar.kind", "hypernet"}, {kDescriptionKey, description.dump()}}},
      trainer.num_steps_done());
  return {.path = options.run.output, .num_steps = trainer.num_steps_done()};
}

}  // namespace molar
