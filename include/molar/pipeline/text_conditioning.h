/// Prompt -> what the UNet attends to. Long prompts become chunks of 75 tokens, never truncated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/tensor.h"
#include "molar/models/clip_text_model.h"
#include "molar/models/clip_tokenizer.h"
#include "molar/models/text_encoding.h"
#include "molar/pipeline/prompt_syntax.h"

namespace molar {

/// One chunk as the text encoder reads it: ids and weights of BOS, up to 75 tokens, EOS, padding.
struct TokenChunk {
  std::vector<int64_t> ids;     ///< [77]
  std::vector<double> weights;  ///< [77], 1 for BOS, EOS and padding
  int64_t num_tokens = 0;       ///< without BOS, EOS and padding
};

/// Splits pieces into chunks. At least one chunk, also for empty text. A full chunk in A1111 syntax
/// moves what follows its last comma to the next one where that comma lies within the last 20
/// tokens.
std::vector<TokenChunk> chunk_tokens(const CLIPTokenizer& tokenizer,
                                     const std::vector<PromptPiece>& pieces, PromptSyntax syntax);

/// A text encoder with its tokenizer. References outlive the call.
struct TextEncoder {
  const CLIPTokenizer& tokenizer;
  CLIPTextModel model;
};

/// What the UNet attends to. Row 0 is the negative prompt where guidance acts, the last row the
/// prompt.
struct TextConditioning {
  Tensor encoder_hidden_states;  ///< [B, 77 * num_chunks, sum of the encoders' widths]
  Tensor pooled;                 ///< SDXL: [B, P], of the first chunk; else undefined
  int64_t num_chunks = 0;
  int64_t num_tokens = 0;  ///< of the prompt in the first encoder, without BOS, EOS and padding
};

struct TextConditioningOptions {
  bool is_sdxl = false;
  bool with_negative = true;               ///< guidance acts
  bool zeros_for_absent_negative = false;  ///< SDXL's force_zeros_for_empty_prompt
};

/// Encodes the prompts of `request` with one encoder (SD 1.x, 2.x) or two (SDXL, joined along D).
/// Prompt and negative prompt are brought to the same number of chunks with empty ones.
/// Each distinct chunk is encoded once; before each the token is asked (StoppedError).
/// Throws ConfigError where clip-skip exceeds the layers, InputError for invalid UTF-8 and for a
/// text of more than 256 chunks.
TextConditioning encode_prompts(const std::vector<TextEncoder>& encoders,
                                const GenerationRequest& request,
                                const TextConditioningOptions& options,
                                const CancellationToken& cancellation);

}  // namespace molar
