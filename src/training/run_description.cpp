#include "run_description.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>

#include "molar/adapters/lora_metadata.h"
#include "molar/core/error.h"
#include "molar/io/hash.h"
#include "molar/schedulers/scheduler.h"
#include "training_model.h"

namespace molar {
namespace {

/// kohya's name, and ours for the same value in the description.
constexpr std::pair<const char*, const char*> kKohyaKeys[] = {
    {"ss_network_dim", "rank"},
    {"ss_network_alpha", "alpha"},
    {"ss_learning_rate", "learning-rate"},
    {"ss_unet_lr", "learning-rate"},
    {"ss_lr_scheduler", "lr-scheduler"},
    {"ss_lr_warmup_steps", "warmup-steps"},
    {"ss_steps", "steps"},
    {"ss_max_train_steps", "steps"},
    {"ss_batch_size_per_device", "batch-size"},
    {"ss_total_batch_size", "batch-size"},
    {"ss_gradient_accumulation_steps", "gradient-accumulation"},
    {"ss_max_grad_norm", "max-grad-norm"},
    {"ss_min_snr_gamma", "min-snr-gamma"},
    {"ss_prior_loss_weight", "prior-weight"},
    {"ss_random_flip", "flip"},
    {"ss_caption_dropout_rate", "proportion-empty-prompts"},
    {"ss_seed", "seed"},
    {"ss_mixed_precision", "dtype"},
};

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// kohya's {"folder": {"caption": how often}}: what inspect and web UIs show as trained words.
Json tag_frequency(const TrainingPictures& pictures, const LoraTrainingOptions& options) {
  Json frequency = Json::object();
  const std::string folder = options.instance.folder.lexically_normal().filename().string();
  for (const TrainingPicture& picture : pictures.instance) {
    Json& count = frequency[folder.empty() ? "instance" : folder][picture.caption];
    count = count.is_null() ? 1 : count.get<int64_t>() + 1;
  }
  return frequency;
}

}  // namespace

std::string pictures_digest(const std::vector<TrainingPicture>& pictures) {
  std::string joined;
  for (const TrainingPicture& picture : pictures)
    joined += sha256_file(picture.path) + sha256_hex(picture.caption);
  return sha256_hex(joined);
}

std::string model_digest(const Checkpoint& checkpoint) {
  constexpr int64_t kNumbersRead = 256;
  std::string joined;
  for (const auto& [component, part] : checkpoint.components)
    for (const auto& [name, tensor] : part.weights) {
      const Tensor first =
          tensor.flatten().narrow(0, 0, std::min(kNumbersRead, tensor.numel())).contiguous();
      joined += fmt::format("{}/{} {} ", component, name, shape_string(tensor.sizes()));
      joined.append(static_cast<const char*>(first.const_data_ptr()), first.nbytes());
    }
  return sha256_hex(joined);
}

void add_model(Json& description, std::optional<int64_t> resolution_px,
               const Checkpoint& checkpoint) {
  description["resolution"] = resolve_resolution(resolution_px, checkpoint);
  description["model"] = model_digest(checkpoint);
}

Json describe_run(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                  const TrainingPictures& pictures) {
  Json description = options.to_json();
  add_model(description, options.resolution_px, checkpoint);
  description["instance-images"] = pictures_digest(pictures.instance);
  if (!pictures.classes.empty()) description["class-images"] = pictures_digest(pictures.classes);
  return description;
}

void require_same_run(const Json& description, const std::map<std::string, std::string>& metadata,
                      const std::filesystem::path& file) {
  constexpr const char* kRemedy = "choose another -o, or start anew with --no-resume";
  const auto found = metadata.find(kDescriptionKey);
  if (found == metadata.end())
    throw ConfigError(
        fmt::format("'{}' exists and is no file of this training; {}", file.string(), kRemedy));
  const Json other = parse_json(found->second, file.string());
  Json keys = description;  // of both
  if (other.is_object()) keys.update(other);
  for (const auto& [key, unused] : keys.items()) {
    const Json there = other.is_object() ? other.value(key, Json()) : Json();
    const Json here = description.value(key, Json());
    if (there != here)
      throw ConfigError(fmt::format("'{}' belongs to another training: {} is {} there, {} here; {}",
                                    file.string(), key, text_of(there), text_of(here), kRemedy));
  }
}

std::map<std::string, std::string> lora_metadata(const LoraTrainingOptions& options,
                                                 const Checkpoint& checkpoint,
                                                 const TrainingPictures& pictures,
                                                 const Json& description) {
  const std::string side = description.at("resolution").dump();
  const std::string prediction_type =
      SchedulerConfig::from_json(checkpoint.scheduler_config, "scheduler/scheduler_config.json")
          .prediction_type;
  const std::string title = options.output.stem().string();
  std::map<std::string, std::string> metadata = {
      {kDescriptionKey, description.dump()},
      {"ss_sd_model_name", checkpoint.path.lexically_normal().filename().string()},
      {"ss_output_name", title},
      {"ss_optimizer", "AdamW"},
      {"ss_gradient_checkpointing", options.gradient_checkpointing ? "True" : "False"},
      {"ss_resolution", fmt::format("({}, {})", side, side)},
      {"ss_num_train_images", std::to_string(pictures.instance.size())},
      {"ss_num_reg_images", std::to_string(pictures.classes.size())},
      {"ss_tag_frequency", tag_frequency(pictures, options).dump()},
      {"modelspec.title", title},
      {"modelspec.resolution", fmt::format("{}x{}", side, side)},
      {"modelspec.prediction_type", prediction_type == "v_prediction" ? "v" : prediction_type},
  };
  metadata.merge(family_metadata(checkpoint.family));
  for (const auto& [kohya, ours] : kKohyaKeys)
    if (description.contains(ours)) metadata[kohya] = text_of(description.at(ours));
  if (options.instance.prompt) metadata["modelspec.trigger_phrase"] = *options.instance.prompt;
  return metadata;
}

}  // namespace molar
