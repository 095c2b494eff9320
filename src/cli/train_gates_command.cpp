#include "train_gates_command.h"

#include <fmt/format.h>

#include "molar/adapters/mole/expert_set.h"
#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "molar/training/gate_training.h"
#include "option_binder.h"
#include "training_samples.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

GateTrainingOptions resolve_training(const TrainGatesOptions& o) {
  GateTrainingOptions t;
  take_picture_training(o.training, t);
  if (o.training.output) {
    t.folder = *o.training.output;
    t.output = t.folder / kGatesFile;
  }
  for (const fs::path& folder : o.instance_images)
    t.pictures.push_back({folder, o.instance_prompt});
  if (!o.experts.empty()) t.experts = comma_separated(o.experts);
  if (o.gates) t.learnt = parse_learnt_gates(*o.gates);
  t.validate();
  return t;
}

/// A set for `generate --mole`: the gates as they are now beside the experts.
void write_set(const fs::path& folder, const GateTrainingOptions& options,
               const LoraFileContent& gates) {
  fs::create_directories(folder);
  write_safetensors(folder / kGatesFile, OnExist::kOverwrite, gates.tensors, gates.metadata);
  for (const std::string& name : options.experts) {
    const fs::path link = expert_path(folder, name);
    fs::remove(link);
    fs::create_symlink(fs::absolute(expert_path(options.folder, name)), link);
  }
}

}  // namespace

CLI::App* register_train_gates(CLI::App& group, TrainGatesOptions& o) {
  CLI::App* app = group.add_subcommand("gates", "Learn when and where experts act (MoLE)");
  OptionBinder data(*app, "Pictures");
  data.list("--instance-images", o.instance_images, "DIR",
            "Scenes and close-ups: .png and .jpg, each with a caption in a .txt of its name, if "
            "any; repeatable");
  data.value("--instance-prompt", o.instance_prompt, "TEXT",
             "Caption of the pictures that have none");
  OptionBinder experts(*app, "Experts");
  experts.list("--experts", o.experts, "NAME,...", "Which are gated; repeatable (face,hand)");
  experts.value("--gates", o.gates, "both|local|global",
                "Which gates are learnt; the others stay open: ablations (both)");
  register_picture_training(
      *app, o.training, "the gates are trained in",
      {"DIR",
       "Folder with NAME.safetensors of every expert: gates.safetensors is written into it"});
  return app;
}

CommandHelp train_gates_help() {
  return {.usage = "--instance-images DIR -o DIR [options]",
          .examples = {"molar train gates --config configs/train/gates.toml -m sd15/ "
                       "--instance-images people/ --instance-images faces/ --instance-images "
                       "hands/ -o mole-sd15/",
                       "molar train gates --experts tail,paw --instance-images cats/ -o mole-cat/"},
          .common_options = {"--instance-images", "--instance-prompt", "--experts", "--model",
                             "--steps", "--learning-rate", "--output"}};
}

void run_train_gates(const TrainGatesOptions& o, const LogSession& log) {
  const GateTrainingOptions options = resolve_training(o);
  SampleDrawer samples(o.training, options, options.folder / "samples" / "gates",
                       o.instance_prompt);
  run_training_command(
      o.training,
      {fmt::format("gates of '{}'", options.folder.string()), options.compute, options.seed}, log,
      [&](const Checkpoint& checkpoint, const TrainingContext& context) {
        return train_gates(options, checkpoint, context,
                           [&](int64_t step, const LoraFileContent& gates) {
                             samples.draw(step, context.cancellation,
                                          [&](const fs::path& stem, GenerationRequest& request) {
                                            write_set(stem, options, gates);
                                            request.mole.folder = stem;
                                          });
                           });
      });
}

}  // namespace molar::cli
