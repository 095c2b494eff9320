/// What `molar train lora` is asked to do, as a value.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "molar/adapters/lora_writer.h"
#include "molar/io/json_config.h"
#include "molar/training/picture_training_options.h"

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

struct LoraTrainingOptions : PictureTrainingOptions {
  PictureSource instance;                ///< what is to be learnt
  std::optional<PictureSource> classes;  ///< what is to stay as it is (prior preservation)
  double prior_weight = 1.0;             ///< of the class pictures' loss; as many as instance ones

  int64_t rank = 8;
  std::optional<double> alpha;  ///< the change is scaled by alpha / rank; unset: the rank
  std::set<LoraTarget> targets = {LoraTarget::kAttention};

  LoraFormat format = LoraFormat::kKohya;
  at::ScalarType save_dtype = at::kFloat;  ///< of the factors in the file

  double effective_alpha() const { return alpha.value_or(static_cast<double>(rank)); }
  /// Throws ConfigError that names the option, what was wanted and what was found.
  void validate() const;
  /// As PictureTrainingOptions has it.
  Json to_json() const;
};

}  // namespace molar
