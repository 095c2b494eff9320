#include "molar/pipeline/text_conditioning.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>

#include "molar/core/error.h"

namespace molar {
namespace {

constexpr size_t kChunkTokens = 75;     // between BOS and EOS
constexpr size_t kCommaBacktrack = 20;  // A1111's comma_padding_backtrack

/// Fills chunks with weighted tokens; the rules of A1111's chunking where `backtrack` is on.
class ChunkBuilder {
 public:
  ChunkBuilder(const CLIPTokenizer& tokenizer, bool backtrack)
      : tokenizer_(tokenizer), backtrack_(backtrack) {
    if (const auto comma = tokenizer.encode(","); comma.size() == 1) comma_ = comma.front();
  }

  void add(int64_t token, double weight) {
    if (token == comma_) {
      last_comma_ = tokens_.size();
    } else if (backtrack_ && tokens_.size() == kChunkTokens && last_comma_ &&
               tokens_.size() - *last_comma_ <= kCommaBacktrack) {
      const auto moved = static_cast<std::ptrdiff_t>(*last_comma_ + 1);
      std::vector<int64_t> tokens(tokens_.begin() + moved, tokens_.end());
      std::vector<double> weights(weights_.begin() + moved, weights_.end());
      tokens_.resize(static_cast<size_t>(moved));
      weights_.resize(static_cast<size_t>(moved));
      close();
      tokens_ = std::move(tokens);
      weights_ = std::move(weights);
    }
    if (tokens_.size() == kChunkTokens) close();
    tokens_.push_back(token);
    weights_.push_back(weight);
  }

  /// Ends the chunk, full or not.
  void close() {
    TokenChunk chunk;
    chunk.ids.push_back(tokenizer_.bos_token_id());
    chunk.ids.insert(chunk.ids.end(), tokens_.begin(), tokens_.end());
    chunk.ids.push_back(tokenizer_.eos_token_id());
    chunk.ids.resize(kChunkTokens + 2, tokenizer_.pad_token_id());
    chunk.weights.push_back(1.0);
    chunk.weights.insert(chunk.weights.end(), weights_.begin(), weights_.end());
    chunk.weights.resize(kChunkTokens + 2, 1.0);
    chunk.num_tokens = static_cast<int64_t>(tokens_.size());
    chunks_.push_back(std::move(chunk));
    tokens_.clear();
    weights_.clear();
    last_comma_.reset();
  }

  std::vector<TokenChunk> finish() {
    if (!tokens_.empty() || chunks_.empty()) close();
    return std::move(chunks_);
  }

 private:
  const CLIPTokenizer& tokenizer_;
  bool backtrack_;
  std::optional<int64_t> comma_;
  std::optional<size_t> last_comma_;  // index in tokens_
  std::vector<int64_t> tokens_;
  std::vector<double> weights_;
  std::vector<TokenChunk> chunks_;
};

struct Encoded {
  Tensor embeddings;  // [1, 77 * chunks, D]
  Tensor pooled;      // [1, P] of the first chunk, or undefined
};

/// hidden: [1, 77, D]. Weighs tokens and restores the mean, as A1111 does.
Tensor weigh(const Tensor& hidden, const std::vector<double>& weights) {
  if (std::all_of(weights.begin(), weights.end(), [](double w) { return w == 1.0; })) return hidden;
  const Tensor exact = hidden.to(torch::kFloat32);
  const Tensor factors =
      torch::tensor(weights, torch::kFloat32).to(hidden.device()).view({1, -1, 1});
  const Tensor weighted = exact * factors;
  return (weighted * (exact.mean() / weighted.mean())).to(hidden.scalar_type());
}

Encoded encode(const TextEncoder& encoder, const std::vector<TokenChunk>& chunks,
               HiddenStateChoice choice) {
  CLIPTextModel model = encoder.model;
  std::vector<Tensor> parts;
  Encoded encoded;
  for (const TokenChunk& chunk : chunks) {
    const Tensor ids = torch::tensor(chunk.ids, torch::kInt64).unsqueeze(0).to(model->device());
    const CLIPTextOutput output = model->forward(ids);
    const auto num_states = static_cast<int64_t>(output.hidden_states.size());
    if (choice.layers_from_end >= num_states)
      throw ConfigError(
          fmt::format("--clip-skip: the text encoder has {} layers, wanted one that leaves at "
                      "least the embeddings",
                      num_states - 1));
    Tensor hidden =
        output.hidden_states[static_cast<size_t>(num_states - 1 - choice.layers_from_end)];
    if (choice.final_layer_norm) hidden = model->final_layer_norm(hidden);
    parts.push_back(weigh(hidden, chunk.weights));
    if (!encoded.pooled.defined()) encoded.pooled = output.text_embeds;
  }
  encoded.embeddings = torch::cat(parts, /*dim=*/1);
  return encoded;
}

/// What one encoder reads for one prompt.
std::vector<TokenChunk> chunks_of(const CLIPTokenizer& tokenizer, const std::string& text,
                                  PromptSyntax syntax) {
  return chunk_tokens(tokenizer, parse_prompt(text, syntax), syntax);
}

/// The texts that one encoder reads: [negative,] prompt.
std::vector<std::string> texts_for(const GenerationRequest& request, bool second_encoder,
                                   bool with_negative) {
  std::vector<std::string> texts;
  const std::string negative = request.negative_prompt.value_or("");
  if (with_negative)
    texts.push_back(second_encoder ? request.negative_prompt_2.value_or(negative) : negative);
  texts.push_back(second_encoder ? request.prompt_2.value_or(request.prompt) : request.prompt);
  return texts;
}

}  // namespace

std::vector<TokenChunk> chunk_tokens(const CLIPTokenizer& tokenizer,
                                     const std::vector<PromptPiece>& pieces, PromptSyntax syntax) {
  ChunkBuilder builder(tokenizer, syntax == PromptSyntax::kA1111);
  for (const PromptPiece& piece : pieces) {
    if (piece.is_break) {
      builder.close();
      continue;
    }
    for (const int64_t token : tokenizer.encode(piece.text)) builder.add(token, piece.weight);
  }
  return builder.finish();
}

HiddenStateChoice hidden_state_choice(bool is_sdxl, std::optional<int64_t> clip_skip) {
  return {clip_skip.value_or(0) + (is_sdxl ? 1 : 0), !is_sdxl};
}

TextConditioning encode_prompts(const std::vector<TextEncoder>& encoders,
                                const GenerationRequest& request,
                                const TextConditioningOptions& options) {
  // chunks[encoder][row]
  std::vector<std::vector<std::vector<TokenChunk>>> chunks;
  size_t num_chunks = 1;
  for (size_t e = 0; e < encoders.size(); ++e) {
    auto& rows = chunks.emplace_back();
    for (const std::string& text : texts_for(request, e > 0, options.with_negative)) {
      rows.push_back(chunks_of(encoders[e].tokenizer, text, request.prompt_syntax));
      num_chunks = std::max(num_chunks, rows.back().size());
    }
  }

  TextConditioning conditioning;
  conditioning.num_chunks = static_cast<int64_t>(num_chunks);
  for (const TokenChunk& chunk : chunks.front().back()) conditioning.num_tokens += chunk.num_tokens;

  const HiddenStateChoice choice = hidden_state_choice(options.is_sdxl, request.clip_skip);
  std::vector<Tensor> widths;  // per encoder: [B, 77 * num_chunks, D]
  for (size_t e = 0; e < encoders.size(); ++e) {
    const TokenChunk empty = chunk_tokens(encoders[e].tokenizer, {}, request.prompt_syntax).front();
    std::vector<Tensor> rows, pooled;
    for (auto& row : chunks[e]) {
      row.resize(num_chunks, empty);
      Encoded encoded = encode(encoders[e], row, choice);
      rows.push_back(std::move(encoded.embeddings));
      if (options.is_sdxl && encoded.pooled.defined()) pooled.push_back(std::move(encoded.pooled));
    }
    widths.push_back(torch::cat(rows, /*dim=*/0));
    if (!pooled.empty())
      conditioning.pooled = torch::cat(pooled, /*dim=*/0);  // the last encoder's stays
  }
  conditioning.encoder_hidden_states = torch::cat(widths, /*dim=*/2);

  const bool negative_absent = !request.negative_prompt && !request.negative_prompt_2;
  if (options.with_negative && negative_absent && options.zeros_for_absent_negative) {
    conditioning.encoder_hidden_states.select(0, 0).zero_();
    conditioning.pooled.select(0, 0).zero_();
  }
  return conditioning;
}

}  // namespace molar
