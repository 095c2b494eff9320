/// What Stable Diffusion makes of one piece of text: the ids that an encoder reads, and which of
/// the encoder's states conditions the UNet.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "molar/models/clip_text_model.h"
#include "molar/models/clip_tokenizer.h"

namespace molar {

/// Tokens of text in one call of an encoder, between BOS and EOS. Longer texts take several calls.
constexpr size_t kChunkTokens = 75;

/// BOS, `tokens` (at most kChunkTokens), EOS, padding: kChunkTokens + 2 ids.
std::vector<int64_t> chunk_ids(const CLIPTokenizer& tokenizer, std::span<const int64_t> tokens);

/// Which hidden state conditions the UNet, and whether the final norm follows it.
struct HiddenStateChoice {
  int64_t layers_from_end = 0;   ///< 0: the last layer's output
  bool final_layer_norm = true;  ///< SD 1.x and 2.x: yes; SDXL: no
};

/// SD 1.x/2.x: the last layer, or `clip_skip` before it. SDXL: the one before, or `clip_skip`
/// before that.
HiddenStateChoice hidden_state_choice(bool is_sdxl, std::optional<int64_t> clip_skip);

/// The state that `choice` names, [B, L, D]. Throws ConfigError where the encoder has fewer layers.
Tensor chosen_hidden_state(CLIPTextModel encoder, const CLIPTextOutput& output,
                           HiddenStateChoice choice);

}  // namespace molar
