/// Prompt -> what the UNet attends to. Long prompts become chunks of 75 tokens, never truncated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "molar/core/tensor.h"
#include "molar/models/clip_text_model.h"
#include "molar/models/clip_tokenizer.h"
#include "molar/pipeline/prompt_syntax.h"

namespace molar {

/// One chunk as the text encoder reads it: ids and weights of BOS, up to 75 tokens, EOS, padding.
struct TokenChunk {
  std::vector<int64_t> ids;      // [77]
  std::vector<double> weights;   // [77], 1 for BOS, EOS and padding
};

/// Splits pieces into chunks. At least one chunk, also for empty text. A full chunk in A1111 syntax
/// moves its last words to the next one where a comma lies within the last 20 tokens.
std::vector<TokenChunk> chunk_tokens(const CLIPTokenizer& tokenizer,
                                     const std::vector<PromptPiece>& pieces, PromptSyntax syntax);

/// Which hidden state conditions the UNet, and whether the final norm follows it.
struct HiddenStateChoice {
  int64_t layers_from_end = 0;  ///< 0: the last layer's output
  bool final_layer_norm = true; ///< SD 1.x and 2.x: yes; SDXL: no
};

/// Encodes chunks and joins them: [1, 77 * chunks, D]. Weights multiply the embeddings, then each
/// chunk's mean is restored (what A1111 does).
Tensor encode_chunks(const CLIPTextModel& model, const std::vector<TokenChunk>& chunks,
                     HiddenStateChoice choice);

/// Conditioning of one prompt, or of the negative one.
struct TextConditioning {
  Tensor encoder_hidden_states;  ///< [1, 77 * num_chunks, D]
  Tensor pooled;                 ///< SDXL: [1, P], of the first chunk; else undefined
  int64_t num_chunks = 0;
  int64_t num_tokens = 0;  ///< without BOS, EOS and padding
};

/// Prompt and negative prompt, brought to the same number of chunks.
struct PromptConditioning {
  TextConditioning prompt;
  std::optional<TextConditioning> negative;  ///< absent without guidance
};

}  // namespace molar
