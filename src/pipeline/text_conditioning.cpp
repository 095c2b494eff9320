#include "molar/pipeline/text_conditioning.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "molar/core/error.h"

namespace molar {
namespace {

constexpr size_t kCommaBacktrack = 20;  // A1111's comma_padding_backtrack
// Some 19,000 tokens: far beyond any prompt, and SDXL's embeddings of them (two rows of 2048
// numbers a token) are 320 MB in float32.
constexpr size_t kMaxChunks = 256;

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
    chunk.ids = chunk_ids(tokenizer_, tokens_);
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

/// One chunk as its encoder leaves it, before weights act.
struct EncodedChunk {
  Tensor hidden;  // [1, 77, D]
  Tensor pooled;  // [1, P], or undefined
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

/// Encodes chunks, each distinct one once: weights act on the result, and the empty chunks that
/// bring prompts to one length are all alike.
class ChunkEncoder {
 public:
  ChunkEncoder(const TextEncoder& encoder, HiddenStateChoice choice,
               const CancellationToken& cancellation)
      : model_(encoder.model), choice_(choice), cancellation_(cancellation) {}

  const EncodedChunk& operator()(const TokenChunk& chunk) {
    const auto [entry, is_new] = encoded_.try_emplace(chunk.ids);
    if (is_new) entry->second = encode(chunk.ids);
    return entry->second;
  }

 private:
  EncodedChunk encode(const std::vector<int64_t>& token_ids) {
    cancellation_.stop_here_if_requested();
    const Tensor ids = torch::tensor(token_ids, torch::kInt64).unsqueeze(0).to(model_->device());
    const CLIPTextOutput output = model_->forward(ids);
    return {chosen_hidden_state(model_, output, choice_), output.text_embeds};
  }

  CLIPTextModel model_;
  HiddenStateChoice choice_;
  const CancellationToken& cancellation_;
  std::map<std::vector<int64_t>, EncodedChunk> encoded_;  // by token ids
};

/// A text and the option that it came from.
struct PromptText {
  std::string_view option;
  std::string text;
};

PromptText text_of(std::string_view option, const std::optional<std::string>& text,
                   PromptText otherwise) {
  return text ? PromptText{option, *text} : std::move(otherwise);
}

/// The texts that one encoder reads: [negative,] prompt.
std::vector<PromptText> texts_for(const GenerationRequest& request, bool second_encoder,
                                  bool with_negative) {
  PromptText prompt{"--prompt", request.prompt};
  PromptText negative = text_of("--negative-prompt", request.negative_prompt, {});
  if (second_encoder) {
    prompt = text_of("--prompt-2", request.prompt_2, std::move(prompt));
    negative = text_of("--negative-prompt-2", request.negative_prompt_2, std::move(negative));
  }
  if (!with_negative) return {std::move(prompt)};
  return {std::move(negative), std::move(prompt)};
}

/// What one encoder reads for one prompt.
std::vector<TokenChunk> chunks_of(const CLIPTokenizer& tokenizer, const PromptText& prompt,
                                  PromptSyntax syntax) {
  auto chunks = chunk_tokens(tokenizer, parse_prompt(prompt.text, syntax), syntax);
  if (chunks.size() > kMaxChunks)
    throw InputError(fmt::format("{}: wanted at most {} chunks of {} tokens, found {}; shorten it",
                                 prompt.option, kMaxChunks, kChunkTokens, chunks.size()));
  return chunks;
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

TextConditioning encode_prompts(const std::vector<TextEncoder>& encoders,
                                const GenerationRequest& request,
                                const TextConditioningOptions& options,
                                const CancellationToken& cancellation) {
  // chunks[encoder][row]
  std::vector<std::vector<std::vector<TokenChunk>>> chunks;
  size_t num_chunks = 1;
  for (size_t e = 0; e < encoders.size(); ++e) {
    auto& rows = chunks.emplace_back();
    for (const PromptText& text : texts_for(request, e > 0, options.with_negative)) {
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
    ChunkEncoder encode(encoders[e], choice, cancellation);
    std::vector<Tensor> rows, pooled;
    for (auto& row : chunks[e]) {
      row.resize(num_chunks, empty);
      std::vector<Tensor> parts;
      for (const TokenChunk& chunk : row)
        parts.push_back(weigh(encode(chunk).hidden, chunk.weights));
      rows.push_back(torch::cat(parts, /*dim=*/1));
      const Tensor& first = encode(row.front()).pooled;
      if (options.is_sdxl && first.defined()) pooled.push_back(first);
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
