#include "molar/models/text_encoding.h"

#include <fmt/format.h>

#include "molar/core/error.h"

namespace molar {

std::vector<int64_t> chunk_ids(const CLIPTokenizer& tokenizer, std::span<const int64_t> tokens) {
  TORCH_CHECK(tokens.size() <= kChunkTokens, "internal: a chunk of ", tokens.size(), " tokens");
  std::vector<int64_t> ids = {tokenizer.bos_token_id()};
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  ids.push_back(tokenizer.eos_token_id());
  ids.resize(kChunkTokens + 2, tokenizer.pad_token_id());
  return ids;
}

HiddenStateChoice hidden_state_choice(bool is_sdxl, std::optional<int64_t> clip_skip) {
  return {clip_skip.value_or(0) + (is_sdxl ? 1 : 0), !is_sdxl};
}

Tensor chosen_hidden_state(CLIPTextModel encoder, const CLIPTextOutput& output,
                           HiddenStateChoice choice) {
  const auto num_states = static_cast<int64_t>(output.hidden_states.size());
  if (choice.layers_from_end >= num_states)
    throw ConfigError(fmt::format(
        "--clip-skip: the text encoder has {} layers, wanted one that leaves at least the "
        "embeddings",
        num_states - 1));
  const Tensor& state =
      output.hidden_states[static_cast<size_t>(num_states - 1 - choice.layers_from_end)];
  return choice.final_layer_norm ? encoder->final_layer_norm(state) : state;
}

}  // namespace molar
