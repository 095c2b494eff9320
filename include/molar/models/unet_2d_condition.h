/// UNet2DConditionModel of diffusers, for Stable Diffusion 1.x, 2.x and XL.
#pragma once

#include <torch/torch.h>

#include "molar/io/json_config.h"
#include "molar/models/layer_hook.h"

namespace molar {

// Config struct: UNet2DConditionConfig (from_json refuses by name what is not supported).

/// Conditioning of one UNet call.
struct UNetConditioning {
  Tensor encoder_hidden_states;  ///< [B, L, cross_attention_dim]
  Tensor text_embeds;            ///< SDXL: [B, P]; undefined otherwise
  Tensor time_ids;               ///< SDXL: [B, 6]; undefined otherwise
  Tensor timestep_cond;          ///< LCM: [B, time_cond_proj_dim]; undefined otherwise
};

}  // namespace molar
