#include "train_lora_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <sstream>

#include "molar/core/error.h"
#include "molar/io/image.h"
#include "molar/io/safetensors.h"
#include "molar/pipeline/stable_diffusion_pipeline.h"
#include "molar/training/lora_training.h"
#include "option_binder.h"
#include "progress_display.h"
#include "signals.h"
#include "training_report.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kSampleSteps = 20, kMaxSampleSteps = 1000;

void register_data_options(CLI::App& app, TrainLoraOptions& o) {
  OptionBinder data(app, "Pictures");
  data.value("--instance-images", o.instance_images, "DIR",
             "What to learn: .png and .jpg, each with a caption in a .txt of its name, if any");
  data.value("--instance-prompt", o.instance_prompt, "TEXT",
             "Caption of the pictures that have none: what will call it (\"a photo of sks dog\")");
  data.value("--class-images", o.class_images, "DIR",
             "What is to stay as it is: other things of the kind (prior preservation)");
  data.value("--class-prompt", o.class_prompt, "TEXT", "Their caption (\"a photo of a dog\")");
  data.value("--prior-weight", o.prior_weight, "X", "Weight of the class pictures' loss (1)");
  data.value("--resolution", o.resolution, "PX",
             "Side of the square that is cut out of each picture (the model's own)");
  data.flag("--flip", o.flip, "Mirror half of the pictures, drawn anew each time");

  register_model_options(app, o.model);
  OptionBinder model(app, "Model");
  model.value("--dtype", o.dtype, "f32|bf16",
              "Type of the frozen model; the LoRA is trained in f32 (f32)");
}

void register_training_options(CLI::App& app, TrainLoraOptions& o) {
  OptionBinder lora(app, "LoRA");
  lora.value("--rank", o.rank, "N", "Rank of each layer's change (8)");
  lora.value("--alpha", o.alpha, "X", "The change is scaled by alpha / rank (the rank)");
  lora.list("--target", o.targets, "NAME,...",
            fmt::format("Layers to change: {}; repeatable (attention)",
                        fmt::join(lora_target_names(), ", ")));

  OptionBinder training(app, "Training");
  training.value("--steps", o.steps, "N", "Updates of the LoRA (1000)");
  training.value("--batch-size", o.batch_size, "N",
                 "Pictures per pass, and as many class pictures (1)");
  training.value("--gradient-accumulation", o.gradient_accumulation, "N", "Passes per step (1)");
  training.value("--learning-rate", o.learning_rate, "X", "Of AdamW (1e-4)");
  training.value("--lr-scheduler", o.lr_scheduler, "constant|cosine",
                 "Rate after the warm-up; cosine falls to 0 at the last step (constant)");
  training.value("--warmup-steps", o.warmup_steps, "N", "Steps in which the rate grows from 0 (0)");
  training.value("--beta1", o.beta1, "X", "AdamW (0.9)");
  training.value("--beta2", o.beta2, "X", "AdamW (0.999)");
  training.value("--weight-decay", o.weight_decay, "X", "AdamW (0.01)");
  training.value("--epsilon", o.epsilon, "X", "AdamW (1e-8)");
  training.value("--max-grad-norm", o.max_grad_norm, "X", "Longer gradients are cut; 0: never (1)");
  training.value("--min-snr-gamma", o.min_snr_gamma, "X",
                 "Weigh steps of little noise less, 5 is usual (no weights)");
  training.value("-s,--seed", o.seed, "N", "Seed of everything random (0)");
  training.flag("--gradient-checkpointing", o.gradient_checkpointing,
                "Much less memory, about a third more time");
}

void register_output_options(CLI::App& app, TrainLoraOptions& o) {
  OptionBinder samples(app, "Sample pictures");
  samples.value("--sample-every", o.sample_every, "N",
                "Every N steps and at the end: keep the LoRA as it is and draw with it (0: never)");
  samples.list("--sample-prompt", o.sample_prompts, "TEXT",
               "What to draw; repeatable (the instance prompt)");
  samples.value("--sample-steps", o.sample_steps, "N",
                fmt::format("Sampling steps of each ({})", kSampleSteps));

  OptionBinder output(app, "Output");
  output.value("-o,--output", o.output, "FILE", "The LoRA, a .safetensors file");
  output.value("--format", o.format, "kohya|diffusers", "Names of its tensors (kohya)");
  output.value("--save-dtype", o.save_dtype, "f32|f16|bf16", "Type of its tensors (f32)");
  output.value("--checkpoint-every", o.checkpoint_every, "N",
               "Steps after which an interrupted run can go on; 0: only if stopped (100)");
  output.flag("--resume", o.resume, "Go on where the same command was interrupted (the default)");
  output.flag("--no-resume", o.no_resume,
              "Start anew: replaces the LoRA and the checkpoint of an earlier run");
}

LearningRateSchedule parse_schedule(const std::string& name) {
  if (name == "constant") return LearningRateSchedule::kConstant;
  if (name == "cosine") return LearningRateSchedule::kCosine;
  throw ConfigError(fmt::format("--lr-scheduler '{}': wanted constant or cosine", name));
}

at::ScalarType parse_save_dtype(const std::string& name) {
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16})
    if (dtype_option(dtype) == name) return dtype;
  throw ConfigError(fmt::format("--save-dtype '{}': wanted f32, f16 or bf16", name));
}

/// {"attention,feed-forward", "text-encoder"} -> three targets.
std::set<LoraTarget> parse_targets(const std::vector<std::string>& lists) {
  std::set<LoraTarget> targets;
  for (const std::string& list : lists) {
    std::istringstream names(list);
    for (std::string name; std::getline(names, name, ',');) targets.insert(parse_lora_target(name));
  }
  return targets;
}

std::optional<PictureSource> class_pictures(const TrainLoraOptions& o) {
  if (o.class_images) return PictureSource{*o.class_images, o.class_prompt};
  if (o.class_prompt) throw ConfigError("--class-prompt without --class-images DIR");
  if (o.prior_weight) throw ConfigError("--prior-weight without --class-images DIR");
  return std::nullopt;
}

LoraTrainingOptions resolve_training(const TrainLoraOptions& o) {
  LoraTrainingOptions t;
  take(o.instance_images, t.instance.folder);
  t.instance.prompt = o.instance_prompt;
  t.classes = class_pictures(o);
  take(o.prior_weight, t.prior_weight);
  take(o.resolution, t.resolution_px);
  t.flip = o.flip;
  take(o.rank, t.rank);
  take(o.alpha, t.alpha);
  if (!o.targets.empty()) t.targets = parse_targets(o.targets);
  take(o.steps, t.num_steps);
  take(o.batch_size, t.batch_size);
  take(o.gradient_accumulation, t.gradient_accumulation);
  take(o.learning_rate, t.learning_rate);
  if (o.lr_scheduler) t.schedule = parse_schedule(*o.lr_scheduler);
  take(o.warmup_steps, t.warmup_steps);
  take(o.beta1, t.beta1);
  take(o.beta2, t.beta2);
  take(o.weight_decay, t.weight_decay);
  take(o.epsilon, t.epsilon);
  take(o.max_grad_norm, t.max_grad_norm);
  take(o.min_snr_gamma, t.min_snr_gamma);
  take(o.seed, t.seed);
  t.gradient_checkpointing = o.gradient_checkpointing;
  t.compute.device = parse_device(o.machine.device.value_or("auto"));
  t.compute.dtype = parse_dtype(o.dtype.value_or("f32"), t.compute.device);
  take(o.output, t.output);
  if (o.format) t.format = parse_lora_format(*o.format);
  if (o.save_dtype) t.save_dtype = parse_save_dtype(*o.save_dtype);
  take(o.checkpoint_every, t.checkpoint_every);
  take(o.sample_every, t.sample_every);
  t.start_anew = starts_anew(o.resume, o.no_resume);
  t.validate();
  return t;
}

ModelRequest resolve_training_model(const TrainLoraOptions& o, const LoraTrainingOptions& t) {
  ModelRequest model;
  take_model(o.model, model);
  model.compute = t.compute;
  return model;
}

/// "dog.safetensors", 100, ".png" -> "dog-step000100.png".
fs::path beside(const fs::path& output, int64_t step, const std::string& ending) {
  return output.parent_path() / fmt::format("{}-step{:06}{}", output.stem().string(), step, ending);
}

/// Draws the sample pictures with the LoRA as it is, by the same code as `molar generate --lora`.
/// The pipeline has a model of its own in memory meanwhile.
class SampleDrawer {
 public:
  SampleDrawer(const TrainLoraOptions& o, const LoraTrainingOptions& t, ModelRequest model)
      : output_(t.output), model_(std::move(model)), prompts_(o.sample_prompts) {
    if (prompts_.empty() && t.instance.prompt) prompts_ = {*t.instance.prompt};
    if (prompts_.empty() && t.sample_every > 0)
      throw ConfigError("--sample-every without --sample-prompt TEXT or --instance-prompt TEXT");
    if (t.sample_every == 0 && !o.sample_prompts.empty())
      throw ConfigError("--sample-prompt without --sample-every N");
    request_.num_steps = o.sample_steps.value_or(kSampleSteps);
    if (request_.num_steps < 1 || request_.num_steps > kMaxSampleSteps)
      throw ConfigError(
          fmt::format("--sample-steps {}: wanted 1 to {}", request_.num_steps, kMaxSampleSteps));
    request_.seed = t.seed;
    request_.prompt_syntax = PromptSyntax::kPlain;  // as captions are read
    request_.width_px = request_.height_px = t.resolution_px;
  }

  /// The LoRA stays beside its pictures: an earlier step may turn out to be the best, and their
  /// records name it.
  void draw(int64_t step, const LoraFileContent& lora, const CancellationToken& cancellation) try {
    const fs::path file = beside(output_, step, ".safetensors");
    write_safetensors(file, OnExist::kOverwrite, lora.tensors, lora.metadata);
    request_.adapters.loras = {{file, 1.0}};
    NoProgress no_progress;
    StableDiffusionPipeline pipeline = StableDiffusionPipeline::open(model_);
    for (size_t i = 0; i < prompts_.size(); ++i) {
      request_.prompt = prompts_[i];
      pipeline.generate(request_, {no_progress, cancellation}, [&](const Picture& picture) {
        const std::string ending = prompts_.size() > 1 ? fmt::format("-{}.png", i) : ".png";
        const std::string png = encode_png(picture.pixels, picture.record.png_text());
        const fs::path path =
            write_file_atomically(beside(output_, step, ending), OnExist::kOverwrite,
                                  [&](const ByteSink& sink) { sink(png); })
                .path;
        spdlog::info("step {}: drew '{}'", step, path.string());
      });
    }
  } catch (const StoppedError&) {
    // A stop that was asked for leaves the rest out; the training then stops itself.
  } catch (const PictureError& error) {
    spdlog::warn("step {}: no sample picture: {}", step, error.what());
  }

 private:
  fs::path output_;
  ModelRequest model_;
  std::vector<std::string> prompts_;
  GenerationRequest request_;
};

}  // namespace

CLI::App* register_train_lora(CLI::App& group, TrainLoraOptions& options) {
  CLI::App* app = group.add_subcommand("lora", "Learn a LoRA from pictures (DreamBooth)");
  register_data_options(*app, options);
  register_training_options(*app, options);
  register_output_options(*app, options);
  register_machine_options(*app, options.machine);
  register_run_options(*app, options.run);
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

void run_train_lora(const TrainLoraOptions& options, const LogSession& log) {
  const CancellationToken& cancellation = handle_signals(options.run.quiet);
  const LoraTrainingOptions training = resolve_training(options);
  const ModelRequest model = resolve_training_model(options, training);
  SampleDrawer samples(options, training, model);
  set_threads(options.machine.threads);
  spdlog::info("learning from '{}' with {}, {} on {}, seed {}", training.instance.folder.string(),
               model.model.string(), dtype_option(training.compute.dtype),
               training.compute.device.str(), training.seed);
  const Checkpoint checkpoint = open_model(model);
  const std::unique_ptr<ProgressSink> progress =
      make_progress_display(options.machine.progress_style(options.run.quiet));
  const LoraTrainingResult result = train_lora(
      training, checkpoint,
      {.progress = *progress,
       .cancellation = cancellation,
       .on_step =
           [&](const TrainingStep& step) {
             if (options.run.json) report_step(step);
           }},
      [&](int64_t step, const LoraFileContent& lora) { samples.draw(step, lora, cancellation); });
  if (!result.already_finished)
    spdlog::info("{} steps: {} layers, {} numbers", result.num_steps, result.num_layers,
                 result.num_parameters);
  report_outcome({result.path, result.already_finished, result.num_steps}, options.run.json,
                 log.warnings());
}

}  // namespace molar::cli
