/// What `molar train lora` is asked to do, as a value. Defaults are diffusers' and peft's where
/// they have one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "molar/adapters/lora_writer.h"
#include "molar/core/device.h"
#include "molar/io/json_config.h"

namespace molar {

/// Which layers get factors.
enum class LoraTarget {
  kAttention,    ///< the UNet's to_q, to_k, to_v, to_out.0
  kFeedForward,  ///< the other layers of its transformers: ff.net.0.proj, ff.net.2, proj_in,
                 ///< proj_out
  kConvolution,  ///< its resnets' and samplers' convolutions: conv1, conv2, conv_shortcut, conv
  kTextEncoder,  ///< every text encoder's q_proj, k_proj, v_proj, out_proj
};

/// "attention", "feed-forward", "convolution", "text-encoder".
std::vector<std::string> lora_target_names();
/// Throws ConfigError for another name.
LoraTarget parse_lora_target(std::string_view name);

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

struct LoraTrainingOptions {
  PictureSource instance;                ///< what is to be learnt
  std::optional<PictureSource> classes;  ///< what is to stay as it is (prior preservation)
  double prior_weight = 1.0;             ///< of the class pictures' loss
  std::optional<int64_t> resolution_px;  ///< side of the square; unset: the model's own
  bool flip = false;                     ///< mirror each picture with probability 1/2

  int64_t rank = 8;
  std::optional<double> alpha;  ///< the change is scaled by alpha / rank; unset: the rank
  std::set<LoraTarget> targets = {LoraTarget::kAttention};

  int64_t num_steps = 1000;           ///< updates of the factors
  int64_t batch_size = 1;             ///< instance pictures per pass; as many class pictures
  int64_t gradient_accumulation = 1;  ///< passes per step
  double learning_rate = 1e-4;
  LearningRateSchedule schedule = LearningRateSchedule::kConstant;
  int64_t warmup_steps = 0;  ///< rate grows from 0 linearly
  double beta1 = 0.9, beta2 = 0.999, weight_decay = 0.01, epsilon = 1e-8;  ///< AdamW
  double max_grad_norm = 1.0;           ///< over all factors; 0: no limit
  std::optional<double> min_snr_gamma;  ///< Hang et al. 2023, arXiv:2303.09556; 5 is usual
  bool gradient_checkpointing = false;  ///< less memory, about a third more time
  uint64_t seed = 0;
  ComputeOptions compute;  ///< float32 or bfloat16; the factors are float32

  std::filesystem::path output;  ///< a .safetensors file
  LoraFormat format = LoraFormat::kKohya;
  at::ScalarType save_dtype = at::kFloat;  ///< of the factors in the file
  int64_t checkpoint_every = 100;          ///< steps; 0: only when stopped
  int64_t sample_every = 0;                ///< steps; 0: no sample pictures
  bool start_anew = false;                 ///< replaces what an earlier run left

  double effective_alpha() const { return alpha.value_or(static_cast<double>(rank)); }
  /// Throws ConfigError that names the option, what was wanted and what was found.
  void validate() const;
  /// What decides the result, under the long option names; neither paths nor how often anything is
  /// written.
  Json to_json() const;
};

}  // namespace molar
