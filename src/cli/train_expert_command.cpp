#include "train_expert_command.h"

#include <fmt/format.h>

#include "molar/adapters/mole/expert_set.h"
#include "molar/core/error.h"
#include "option_binder.h"
#include "train_lora_command.h"

namespace molar::cli {
namespace {

// Zhu et al. 2024, appendix A.1; the alphas are the published code's, 64 and 128 of rank 256.
constexpr int64_t kRank = 256;
constexpr double kFaceScale = 0.25, kScale = 0.5;  // alpha / rank

LoraTrainingOptions resolve_training(const TrainExpertOptions& o) {
  if (!o.region) throw ConfigError("no region; wanted --region face, hand or another name");
  if (!is_expert_name(*o.region) || expert_path("", *o.region) == kGatesFile)
    throw ConfigError(fmt::format(
        "--region '{}': wanted a name of letters, digits, '-' and '_' that is not gates",
        *o.region));
  if (!o.training.output) throw ConfigError("no folder for the expert; wanted -o DIR");
  LoraTrainingOptions t;
  take_picture_training(o.training, t);
  t.output = expert_path(*o.training.output, *o.region);
  take(o.instance_images, t.instance.folder);
  t.instance.prompt = o.instance_prompt;
  t.rank = o.rank.value_or(kRank);
  t.alpha =
      o.alpha.value_or((*o.region == "face" ? kFaceScale : kScale) * static_cast<double>(t.rank));
  t.targets = {LoraTarget::kAttention, LoraTarget::kFeedForward};  // where gates can be
  if (o.save_dtype) t.save_dtype = parse_save_dtype(*o.save_dtype);
  t.validate();
  return t;
}

}  // namespace

CLI::App* register_train_expert(CLI::App& group, TrainExpertOptions& o) {
  CLI::App* app = group.add_subcommand("expert", "Learn an expert from close-ups (MoLE)");
  OptionBinder data(*app, "Pictures");
  data.value("--region", o.region, "face|hand|NAME",
             "What the close-ups show: the expert's name, and its file's");
  data.value("--instance-images", o.instance_images, "DIR",
             "Close-ups: .png and .jpg, each with a caption in a .txt of its name, if any");
  data.value("--instance-prompt", o.instance_prompt, "TEXT",
             "Caption of the pictures that have none");
  OptionBinder expert(*app, "Expert");
  expert.value("--rank", o.rank, "N", fmt::format("Rank of each layer's change ({})", kRank));
  expert.value("--alpha", o.alpha, "X",
               "The change is scaled by alpha / rank (a quarter of the rank for face, else half)");
  register_picture_training(*app, o.training, "the expert is trained in",
                            {"DIR", "Folder of the experts: NAME.safetensors is written into it"});
  OptionBinder output(*app, "Output");
  output.value("--save-dtype", o.save_dtype, "f32|f16|bf16", "Type of its tensors (f32)");
  return app;
}

CommandHelp train_expert_help() {
  return {.usage = "--region face|hand --instance-images DIR -o DIR [options]",
          .examples = {"molar train expert --config configs/train/expert.toml -m sd15/ --region "
                       "face --instance-images faces/ -o mole-sd15/",
                       "molar train gates -m sd15/ --instance-images people/ --instance-images "
                       "faces/ --instance-images hands/ -o mole-sd15/"},
          .common_options = {"--region", "--instance-images", "--instance-prompt", "--model",
                             "--rank", "--alpha", "--steps", "--learning-rate", "--output"}};
}

void run_train_expert(const TrainExpertOptions& o, const LogSession& log) {
  const LoraTrainingOptions options = resolve_training(o);
  // A folder of their own: every file beside the gates is an expert.
  SampleDrawer samples(o.training, options, *o.training.output / "samples" / *o.region,
                       options.instance.prompt);
  samples.without_experts();
  run_lora_training(o.training, options, samples, log);
}

}  // namespace molar::cli
