#include "train_lora_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "molar/training/lora_training.h"
#include "option_binder.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

std::optional<PictureSource> class_pictures(const TrainLoraOptions& o) {
  if (o.class_images) return PictureSource{*o.class_images, o.class_prompt};
  if (o.class_prompt) throw ConfigError("--class-prompt without --class-images DIR");
  if (o.prior_weight) throw ConfigError("--prior-weight without --class-images DIR");
  return std::nullopt;
}

LoraTrainingOptions resolve_training(const TrainLoraOptions& o) {
  LoraTrainingOptions t;
  take_picture_training(o.training, t);
  take(o.training.output, t.output);
  take(o.instance_images, t.instance.folder);
  t.instance.prompt = o.instance_prompt;
  t.classes = class_pictures(o);
  take(o.prior_weight, t.prior_weight);
  take(o.rank, t.rank);
  take(o.alpha, t.alpha);
  if (!o.targets.empty()) t.targets.clear();
  for (const std::string& name : comma_separated(o.targets))
    t.targets.insert(parse_lora_target(name));
  if (o.format) t.format = parse_lora_format(*o.format);
  if (o.save_dtype) t.save_dtype = parse_save_dtype(*o.save_dtype);
  t.validate();
  return t;
}

}  // namespace

CLI::App* register_train_lora(CLI::App& group, TrainLoraOptions& o) {
  CLI::App* app = group.add_subcommand("lora", "Learn a LoRA from pictures (DreamBooth)");
  OptionBinder data(*app, "Pictures");
  data.value("--instance-images", o.instance_images, "DIR",
             "What to learn: .png and .jpg, each with a caption in a .txt of its name, if any");
  data.value("--instance-prompt", o.instance_prompt, "TEXT",
             "Caption of the pictures that have none: what will call it (\"a photo of sks dog\")");
  data.value("--class-images", o.class_images, "DIR",
             "What is to stay as it is: other things of the kind (prior preservation); as many in "
             "a pass as instance pictures");
  data.value("--class-prompt", o.class_prompt, "TEXT", "Their caption (\"a photo of a dog\")");
  data.value("--prior-weight", o.prior_weight, "X", "Weight of the class pictures' loss (1)");
  OptionBinder lora(*app, "LoRA");
  lora.value("--rank", o.rank, "N", "Rank of each layer's change (8)");
  lora.value("--alpha", o.alpha, "X", "The change is scaled by alpha / rank (the rank)");
  lora.list("--target", o.targets, "TARGET,...",
            fmt::format("Layers to change: {}; repeatable (attention)",
                        fmt::join(lora_target_names(), ", ")));
  register_picture_training(*app, o.training, "the LoRA is trained in",
                            {"FILE", "The LoRA, a .safetensors file"});
  OptionBinder output(*app, "Output");
  output.value("--format", o.format, "kohya|diffusers", "Names of its tensors (kohya)");
  output.value("--save-dtype", o.save_dtype, "f32|f16|bf16", "Type of its tensors (f32)");
  return app;
}

CommandHelp train_lora_help() {
  return {
      .usage = "--instance-images DIR --instance-prompt TEXT -o FILE [options]",
      .examples = {"molar train lora -m sd15/ --instance-images dog/ --instance-prompt \"a photo "
                   "of sks dog\" --steps 500 -o dog.safetensors",
                   "molar train lora --config configs/train/subject.toml --instance-images dog/ "
                   "-o dog.safetensors"},
      .common_options = {"--instance-images", "--instance-prompt", "--class-images",
                         "--class-prompt", "--model", "--rank", "--target", "--steps",
                         "--learning-rate", "--resolution", "--sample-every", "--output"}};
}

at::ScalarType parse_save_dtype(const std::string& name) {
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16})
    if (dtype_option(dtype) == name) return dtype;
  throw ConfigError(fmt::format("--save-dtype '{}': wanted f32, f16 or bf16", name));
}

void run_lora_training(const PictureTrainingFlags& flags, const LoraTrainingOptions& options,
                       SampleDrawer& samples, const LogSession& log) {
  run_training_command(
      flags,
      {fmt::format("from '{}'", options.instance.folder.string()), options.compute, options.seed},
      log, [&](const Checkpoint& checkpoint, const TrainingContext& context) {
        return train_lora(options, checkpoint, context,
                          [&](int64_t step, const LoraFileContent& lora) {
                            samples.draw(step, context.cancellation,
                                         [&](const fs::path& stem, GenerationRequest& request) {
                                           const fs::path file = stem.string() + ".safetensors";
                                           write_safetensors(file, OnExist::kOverwrite,
                                                             lora.tensors, lora.metadata);
                                           request.adapters.loras = {{file, 1.0}};
                                         });
                          });
      });
}

void run_train_lora(const TrainLoraOptions& o, const LogSession& log) {
  const LoraTrainingOptions options = resolve_training(o);
  SampleDrawer samples(o.training, options, fs::path(options.output).replace_extension(),
                       options.instance.prompt);
  run_lora_training(o.training, options, samples, log);
}

}  // namespace molar::cli
