/// What every training on pictures is asked to do, as a value: how they are shown, for how many
/// steps, at which rate, and where the result goes. Defaults are diffusers' and peft's where they
/// have one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "molar/core/device.h"
#include "molar/io/json_config.h"

namespace molar {

/// How the learning rate goes on after the warm-up.
enum class LearningRateSchedule {
  kConstant,
  kCosine,  ///< half a cosine, to 0 at the last step
};

/// Pictures that are learnt from and the text that goes with those that have none of their own.
struct PictureSource {
  std::filesystem::path folder;
  std::optional<std::string> prompt;
};

struct PictureTrainingOptions {
  std::optional<int64_t> resolution_px;  ///< side of the square; unset: the model's own
  bool flip = false;                     ///< mirror each picture with probability 1/2
  /// Each caption is the empty one with this probability: what is learnt serves guidance, which
  /// compares the prompt's prediction with the empty prompt's (Ho and Salimans 2022,
  /// arXiv:2207.12598).
  double proportion_empty_prompts = 0;

  int64_t num_steps = 1000;           ///< updates of what is learnt
  int64_t batch_size = 1;             ///< pictures per pass
  int64_t gradient_accumulation = 1;  ///< passes per step
  double learning_rate = 1e-4;
  LearningRateSchedule schedule = LearningRateSchedule::kConstant;
  int64_t warmup_steps = 0;  ///< rate grows from 0 linearly
  double beta1 = 0.9, beta2 = 0.999, weight_decay = 0.01, epsilon = 1e-8;  ///< AdamW
  double max_grad_norm = 1.0;           ///< over all that is learnt; 0: no limit
  std::optional<double> min_snr_gamma;  ///< Hang et al. 2023, arXiv:2303.09556; 5 is usual
  bool gradient_checkpointing = false;  ///< less memory, about a third more time
  uint64_t seed = 0;
  ComputeOptions compute;  ///< float32 or bfloat16; what is learnt is float32

  std::filesystem::path output;    ///< a .safetensors file
  int64_t checkpoint_every = 100;  ///< steps; 0: only when stopped
  int64_t sample_every = 0;        ///< steps; 0: no sample pictures
  bool start_anew = false;         ///< replaces what an earlier run left

  /// Throws ConfigError that names the option, what was wanted and what was found.
  void validate() const;
  /// What decides the result, under the long option names; neither paths nor how often anything is
  /// written.
  Json to_json() const;
};

}  // namespace molar
