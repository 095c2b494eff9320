#include "molar/training/lora_training.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <charconv>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "run_description.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr const char* kStepKey = "molar.step";

TrainingPictures list_all_pictures(const LoraTrainingOptions& options) {
  TrainingPictures pictures;
  pictures.instance = list_pictures(options.instance, "instance");
  if (options.classes) pictures.classes = list_pictures(*options.classes, "class");
  return pictures;
}

int64_t read_step(const SafetensorsFile& file) {
  int64_t step = -1;
  if (const auto found = file.metadata().find(kStepKey); found != file.metadata().end())
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), step);
  if (step < 0)
    throw FileError(fmt::format("the checkpoint '{}' does not say its step ({})",
                                file.path().string(), kStepKey));
  return step;
}

/// The files of one run: its LoRA, and its checkpoint until that is written.
class RunFiles {
 public:
  RunFiles(const LoraTrainingOptions& options, Json description)
      : output_(options.output),
        checkpoint_(checkpoint_path(options.output)),
        description_(std::move(description)) {
    if (options.start_anew) {
      remove_checkpoint();
      fs::remove(output_);
    }
    if (fs::exists(output_))
      require_same_run(description_, SafetensorsFile::open(output_).metadata(), output_);
  }

  bool finished() const { return fs::exists(output_); }

  void resume(LoraTrainer& trainer) const {
    if (!fs::exists(checkpoint_)) return;
    const SafetensorsFile file = SafetensorsFile::open(checkpoint_);
    require_same_run(description_, file.metadata(), checkpoint_);
    trainer.restore(file.state_dict(), read_step(file));
    spdlog::info("going on after step {} of '{}'", trainer.num_steps_done(), checkpoint_.string());
  }

  void write_checkpoint(const LoraTrainer& trainer) const {
    write_safetensors(checkpoint_, OnExist::kOverwrite, trainer.state(),
                      {{kDescriptionKey, description_.dump()},
                       {kStepKey, std::to_string(trainer.num_steps_done())}});
  }

  /// Last, so that a run killed between the two finds the LoRA and is finished.
  void write_lora(const LoraFileContent& lora) const {
    write_safetensors(output_, OnExist::kOverwrite, lora.tensors, lora.metadata);
    remove_checkpoint();
  }
  void remove_checkpoint() const { fs::remove(checkpoint_); }

 private:
  fs::path output_, checkpoint_;
  Json description_;
};

bool is_due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

}  // namespace

fs::path checkpoint_path(const fs::path& output) {
  return fs::path(output).replace_extension(".checkpoint.safetensors");
}

LoraTrainingResult train_lora(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                              const LoraTrainingContext& context) {
  options.validate();
  const TrainingPictures pictures = list_all_pictures(options);
  const Json description = describe_run(options, checkpoint, pictures);
  const RunFiles files(options, description);
  if (files.finished()) {
    files.remove_checkpoint();
    return {.path = options.output, .already_finished = true, .num_steps = options.num_steps};
  }

  LoraTrainer trainer(options, checkpoint, pictures, context.progress, context.cancellation);
  files.resume(trainer);
  // Hours of work must not end at a folder that cannot be written to.
  if (trainer.num_steps_done() == 0) files.write_checkpoint(trainer);
  const auto content = [&] {
    LoraFileContent file = spell_lora(trainer.lora(), checkpoint.family, options.format,
                                      lora_metadata(options, checkpoint, pictures, description));
    for (auto& [name, tensor] : file.tensors)
      if (tensor.dim() > 0) tensor = tensor.to(options.save_dtype);  // not alpha
    return file;
  };

  const int64_t done = trainer.num_steps_done();
  context.progress.begin(done == 0 ? "training" : fmt::format("training from step {}", done),
                         options.num_steps - done);
  while (trainer.num_steps_done() < options.num_steps) {
    if (context.cancellation.requested()) files.write_checkpoint(trainer);
    context.cancellation.stop_here_if_requested();
    const TrainingStep step = trainer.advance();
    context.progress.describe(fmt::format("loss {:.4f}", step.loss));
    context.progress.advance();
    context.on_step(step);
    const bool last = step.step == options.num_steps;
    if (!last && is_due(step.step, options.checkpoint_every)) files.write_checkpoint(trainer);
    if (is_due(step.step, options.sample_every) || (last && options.sample_every > 0))
      context.on_sample(step.step, content());
  }
  context.progress.end();
  files.write_lora(content());
  return {.path = options.output,
          .num_steps = options.num_steps,
          .num_layers = static_cast<int64_t>(trainer.lora().layers.size()),
          .num_parameters = trainer.num_parameters()};
}

}  // namespace molar
