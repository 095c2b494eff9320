#include "train_ziplora_command.h"

#include <fmt/format.h>

#include "molar/training/merge_training.h"
#include "option_binder.h"

namespace molar::cli {

CLI::App* register_train_ziplora(CLI::App& group, TrainZiploraOptions& o) {
  CLI::App* app = group.add_subcommand("ziplora", "Learn how two LoRAs are to be merged (ZipLoRA)");
  OptionBinder what(*app, "What");
  what.value("--subject", o.subject, "FILE", "LoRA of the subject");
  what.value("--style", o.style, "FILE", "LoRA of the style");
  what.value("--subject-images", o.subject_images, "DIR",
             "Pictures that the subject's was taught, each with a caption in a .txt of its name, "
             "if any");
  what.value("--subject-prompt", o.subject_prompt, "TEXT",
             "Caption of those that have none (the LoRA's trigger words)");
  what.value("--style-images", o.style_images, "DIR", "The same for the style");
  what.value("--style-prompt", o.style_prompt, "TEXT", "The same for the style");
  register_merge_training(*app, o.training, ZiploraOptions{}.run);
  return app;
}

CommandHelp train_ziplora_help() {
  return {.usage =
              "--subject FILE --subject-images DIR --style FILE --style-images DIR -o FILE "
              "[options]",
          .examples = {"molar train ziplora --subject dog.safetensors --subject-images dog/ "
                       "--style ink.safetensors --style-images ink/ -o dog-ink.ziplora.safetensors",
                       "molar merge --method ziplora --coefficients dog-ink.ziplora.safetensors "
                       "--subject dog.safetensors --style ink.safetensors -o dog-ink.safetensors"},
          .common_options = {"--subject", "--style", "--subject-images", "--style-images",
                             "--model", "--steps", "--output"}};
}

void run_train_ziplora(const TrainZiploraOptions& o, const LogSession& log) {
  ZiploraOptions options;
  take(o.subject, options.subject.file);
  take(o.style, options.style.file);
  take(o.subject_images, options.subject.pictures.folder);
  take(o.style_images, options.style.pictures.folder);
  options.subject.pictures.prompt = o.subject_prompt;
  options.style.pictures.prompt = o.style_prompt;
  take_merge_training(o.training, options.run);
  options.validate();
  run_training_command(o.training,
                       {fmt::format("to merge '{}' and '{}'", options.subject.file.string(),
                                    options.style.file.string()),
                        options.run.compute, options.run.seed},
                       log, [&](const Checkpoint& checkpoint, const TrainingContext& context) {
                         return train_ziplora(options, checkpoint, context);
                       });
}

}  // namespace molar::cli
