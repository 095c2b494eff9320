#include "train_hypernet_command.h"

#include <fmt/format.h>

#include "molar/core/error.h"
#include "molar/training/merge_training.h"
#include "option_binder.h"

namespace molar::cli {

CLI::App* register_train_hypernet(CLI::App& group, TrainHypernetOptions& o) {
  CLI::App* app = group.add_subcommand(
      "hypernet", "Learn a network that predicts how LoRAs are merged (LoRA.rar)");
  OptionBinder what(*app, "LoRAs");
  what.value("--subjects", o.subjects, "DIR",
             "Subject LoRAs, NAME.safetensors, each with the pictures it was taught in NAME/");
  what.value("--styles", o.styles, "DIR", "The same for styles; every pair is learnt from");
  what.value("--joint-images", o.joint_images, "DIR",
             "Pictures that show both, if there are some: DIR/SUBJECT/STYLE, named as the files, "
             "with captions; the merge learns to draw them too");
  what.value("--validation-subjects", o.validation_subjects, "DIR",
             "Subjects that are not learnt from: the network that merges them best is kept");
  what.value("--validation-styles", o.validation_styles, "DIR", "The same for styles");

  const HypernetOptions defaults;
  OptionBinder network(*app, "Network");
  network.value(
      "--layout", o.layout, "columns|features",
      "What it reads: the changes' columns, a head for each width (LoRA.rar), or features "
      "of them that fit a layer of any width (columns)");
  network.value("--hidden", o.hidden, "N", fmt::format("Hidden values ({})", defaults.num_hidden));
  network.flag("--constant", o.constant, "Predict the same whatever the LoRAs hold: the ablation");

  register_merge_training(*app, o.training, defaults.run);
  OptionBinder training(*app, "Training");
  training.value("--pairs-per-step", o.pairs_per_step, "N",
                 fmt::format("Pairs that an update is the mean of ({})", defaults.pairs_per_step));
  training.value("--joint-weight", o.joint_weight, "X",
                 fmt::format("Of the loss on --joint-images ({})", defaults.joint_weight));
  training.value("--weight-decay", o.weight_decay, "X",
                 fmt::format("AdamW ({})", defaults.weight_decay));
  training.value("--max-grad-norm", o.max_grad_norm, "X",
                 fmt::format("Longer gradients are cut; 0: never ({})", defaults.max_grad_norm));
  training.value(
      "--validate-every", o.validate_every, "N",
      fmt::format("Steps between validations ({})", defaults.steps_between_validations()));
  training.value("--patience", o.patience, "N",
                 "Validations in a row without a better one that end the training; 0: none (0)");
  return app;
}

CommandHelp train_hypernet_help() {
  return {.usage = "--subjects DIR --styles DIR -o FILE [options]",
          .examples = {"molar train hypernet -m sdxl/ --subjects subjects/ --styles styles/ "
                       "--gradient-checkpointing -o hypernet.safetensors",
                       "molar train hypernet --subjects s/ --styles t/ --validation-subjects vs/ "
                       "--validation-styles vt/ --patience 5 -o hypernet.safetensors"},
          .common_options = {"--subjects", "--styles", "--validation-subjects",
                             "--validation-styles", "--model", "--steps", "--output"}};
}

void run_train_hypernet(const TrainHypernetOptions& o, const LogSession& log) {
  HypernetOptions options;
  take(o.subjects, options.subjects);
  take(o.styles, options.styles);
  take(o.validation_subjects, options.validation_subjects);
  take(o.validation_styles, options.validation_styles);
  if (o.joint_weight && !o.joint_images)
    throw ConfigError("--joint-weight does nothing without --joint-images DIR");
  if (o.layout) options.layout = parse_hypernet_layout(*o.layout);
  take(o.joint_images, options.joint_images);
  take(o.joint_weight, options.joint_weight);
  take(o.hidden, options.num_hidden);
  take(o.pairs_per_step, options.pairs_per_step);
  options.validate_every = o.validate_every;
  take(o.patience, options.patience);
  take(o.weight_decay, options.weight_decay);
  take(o.max_grad_norm, options.max_grad_norm);
  options.constant = o.constant;
  take_merge_training(o.training, options.run);
  options.validate();
  run_training_command(
      o.training,
      {fmt::format("to merge '{}' with '{}'", options.subjects.string(), options.styles.string()),
       options.run.compute, options.run.seed},
      log, [&](const Checkpoint& checkpoint, const TrainingContext& context) {
        return train_hypernet(options, checkpoint, context);
      });
}

}  // namespace molar::cli
