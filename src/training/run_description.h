/// Which training a file belongs to: see Note [Resuming] in picture_training.h.
#pragma once

#include <map>
#include <string>

#include "molar/io/checkpoint.h"
#include "molar/training/lora_trainer.h"

namespace molar {

/// Metadata key of the description.
constexpr const char* kDescriptionKey = "molar.training";

/// Of files and captions, in order; the names do not matter.
std::string pictures_digest(const std::vector<TrainingPicture>& pictures);
/// Of every tensor's name, shape and first numbers: tells models apart without reading gigabytes.
std::string model_digest(const Checkpoint& checkpoint);

/// "model" and "resolution": what every training depends on, on top of its options.
void add_model(Json& description, std::optional<int64_t> resolution_px,
               const Checkpoint& checkpoint);

/// {"rank": 8, ..., "resolution": 512, "model": digest, "instance-images": digest, ...}
Json describe_run(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                  const TrainingPictures& pictures);

/// Throws ConfigError where `metadata`, which stands in `file`, is not of the run `description`:
/// names the first difference.
void require_same_run(const Json& description, const std::map<std::string, std::string>& metadata,
                      const std::filesystem::path& file);

/// What kohya's tools, A1111 and ComfyUI look for in a LoRA file, and the description itself.
std::map<std::string, std::string> lora_metadata(const LoraTrainingOptions& options,
                                                 const Checkpoint& checkpoint,
                                                 const TrainingPictures& pictures,
                                                 const Json& description);

}  // namespace molar
