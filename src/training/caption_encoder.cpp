#include "molar/training/caption_encoder.h"

#include <torch/torch.h>

#include <algorithm>
#include <set>
#include <span>

#include "molar/models/model_loader.h"

namespace molar {
namespace {

constexpr size_t kCaptionsAtOnce = 32;

using Chunks = std::vector<std::vector<int64_t>>;

Chunks chunks_of(const CLIPTokenizer& tokenizer, const std::string& caption) {
  const std::vector<int64_t> tokens = tokenizer.encode(caption);
  const std::span<const int64_t> all(tokens);
  Chunks chunks;
  size_t begin = 0;
  do {
    chunks.push_back(
        chunk_ids(tokenizer, all.subspan(begin, std::min(kChunkTokens, all.size() - begin))));
    begin += kChunkTokens;
  } while (begin < all.size());
  return chunks;
}

Tensor stacked(Chunks chunks, size_t num_chunks, const std::vector<int64_t>& empty) {
  chunks.resize(num_chunks, empty);
  std::vector<Tensor> rows;
  for (const auto& chunk : chunks) rows.push_back(torch::tensor(chunk, torch::kInt64));
  return torch::stack(rows);
}

}  // namespace

std::vector<std::string> text_encoder_names(ModelFamily family) {
  if (family == ModelFamily::kSdxl) return {"text_encoder", "text_encoder_2"};
  return {"text_encoder"};
}

CaptionEncoder::CaptionEncoder(const Checkpoint& checkpoint, const ComputeOptions& compute,
                               const std::vector<std::string>& captions)
    : is_sdxl_(checkpoint.family == ModelFamily::kSdxl) {
  const std::set<std::string> distinct(captions.begin(), captions.end());
  captions_.assign(distinct.begin(), distinct.end());
  std::map<std::string, CLIPTokenizer> tokenizers;
  size_t num_chunks = 1;
  for (const std::string& name : text_encoder_names(checkpoint.family)) {
    const std::string files = name == "text_encoder_2" ? "tokenizer_2" : "tokenizer";
    const CLIPTokenizer& tokenizer =
        tokenizers.emplace(name, CLIPTokenizer::load(checkpoint.tokenizers.at(files)))
            .first->second;
    for (const std::string& caption : captions_)
      num_chunks = std::max(num_chunks, chunks_of(tokenizer, caption).size());
  }
  for (const auto& [name, tokenizer] : tokenizers) {
    Encoder& encoder = encoders_[name];
    encoder.model = load_text_encoder(checkpoint.component(name), compute);
    const std::vector<int64_t> empty = chunk_ids(tokenizer, {});
    for (const std::string& caption : captions_)
      encoder.ids[caption] =
          stacked(chunks_of(tokenizer, caption), num_chunks, empty).to(compute.device);
  }
}

void CaptionEncoder::freeze(ProgressSink& progress, const CancellationToken& cancellation) {
  const torch::NoGradGuard no_grad;
  progress.begin("encoding captions", static_cast<int64_t>(captions_.size()));
  for (auto at = captions_.begin(); at != captions_.end();) {
    cancellation.stop_here_if_requested();
    const auto count = std::min<std::ptrdiff_t>(kCaptionsAtOnce, captions_.end() - at);
    const std::vector<std::string> batch(at, at + count);
    const UNetConditioning rows = run(batch);
    for (int64_t i = 0; i < count; ++i, ++at) {
      frozen_[*at].encoder_hidden_states = rows.encoder_hidden_states.narrow(0, i, 1);
      if (is_sdxl_) frozen_[*at].text_embeds = rows.text_embeds.narrow(0, i, 1);
      progress.advance();
    }
  }
  progress.end();
  encoders_.clear();
}

UNetConditioning CaptionEncoder::encode(const std::vector<std::string>& captions) {
  if (frozen_.empty()) return run(captions);
  std::vector<Tensor> hidden, pooled;
  for (const std::string& caption : captions) {
    const UNetConditioning& row = frozen_.at(caption);
    hidden.push_back(row.encoder_hidden_states);
    if (is_sdxl_) pooled.push_back(row.text_embeds);
  }
  UNetConditioning conditioning;
  conditioning.encoder_hidden_states = torch::cat(hidden);
  if (is_sdxl_) conditioning.text_embeds = torch::cat(pooled);
  return conditioning;
}

UNetConditioning CaptionEncoder::run(const std::vector<std::string>& captions) {
  const auto batch = static_cast<int64_t>(captions.size());
  const HiddenStateChoice choice = hidden_state_choice(is_sdxl_, /*clip_skip=*/{});
  UNetConditioning conditioning;
  std::vector<Tensor> widths;
  for (auto& [name, encoder] : encoders_) {
    std::vector<Tensor> ids;
    for (const std::string& caption : captions) ids.push_back(encoder.ids.at(caption));
    const CLIPTextOutput output = encoder.model->forward(torch::cat(ids));  // [B * chunks, 77]
    const Tensor hidden = chosen_hidden_state(encoder.model, output, choice);
    widths.push_back(hidden.reshape({batch, -1, hidden.size(2)}));
    if (is_sdxl_ && output.text_embeds.defined())  // the last encoder's stays; of the first chunk
      conditioning.text_embeds = output.text_embeds.unflatten(0, {batch, -1}).select(1, 0);
  }
  conditioning.encoder_hidden_states = torch::cat(widths, /*dim=*/2);
  return conditioning;
}

}  // namespace molar
