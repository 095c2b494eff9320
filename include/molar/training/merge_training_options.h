/// What trainings that learn to merge two LoRAs are asked to do, as values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "molar/adapters/hypernetwork.h"
#include "molar/core/device.h"
#include "molar/io/json_config.h"
#include "molar/training/lora_training_options.h"

namespace molar {

/// Of both trainings.
struct MergeTrainingOptions {
  std::optional<int64_t> resolution_px;  ///< side of the square; unset: the model's own
  int64_t num_steps = 100;
  int64_t batch_size = 1;           ///< pictures of each LoRA per pass
  double learning_rate = 0.01;      ///< of AdamW
  double similarity_weight = 0.01;  ///< lambda
  bool gradient_checkpointing = false;
  uint64_t seed = 0;
  ComputeOptions compute;  ///< float32 or bfloat16; what is learnt is float32

  std::filesystem::path output;  ///< a .safetensors file
  int64_t checkpoint_every = 50;
  bool start_anew = false;

  /// Throws ConfigError that names the option, what was wanted and what was found.
  void validate() const;
  /// What decides the result, under the long option names; no paths.
  Json to_json() const;
};

/// A LoRA and what it was taught.
struct TaughtLora {
  std::filesystem::path file;
  PictureSource pictures;
};

/// `molar train ziplora`.
struct ZiploraOptions {
  TaughtLora subject, style;
  MergeTrainingOptions run;

  void validate() const;
};

/// `molar train hypernet`. Folders hold LoRAs, NAME.safetensors, each with its pictures in NAME/.
struct HypernetOptions {
  std::filesystem::path subjects, styles;
  std::filesystem::path validation_subjects, validation_styles;  ///< both or none
  HypernetLayout layout = HypernetLayout::kColumns;
  int64_t num_hidden = 128;
  /// Pictures that show a subject in a style, SUBJECT/STYLE/*, if there are any.
  std::filesystem::path joint_images;
  double joint_weight = 1;  ///< of their loss
  /// Does not read the LoRAs: predicts the same for all of a layout's kinds of layer.
  bool constant = false;
  int64_t pairs_per_step = 1;
  double weight_decay = 1e-4, max_grad_norm = 1.0;
  std::optional<int64_t> validate_every;  ///< steps; unset: 50
  /// Validations in a row without a better one that end the training; 0: none do.
  int64_t patience = 0;
  MergeTrainingOptions run{.num_steps = 500};

  bool validates() const { return !validation_subjects.empty(); }
  int64_t steps_between_validations() const { return validate_every.value_or(50); }
  void validate() const;
  Json to_json() const;
};

}  // namespace molar
