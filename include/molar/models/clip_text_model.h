/// CLIP's text encoder as Stable Diffusion uses it: transformers' CLIPTextModel and
/// CLIPTextModelWithProjection in one class (Radford et al. 2021, arXiv:2103.00020).
#pragma once

#include <torch/torch.h>

#include <optional>
#include <string>
#include <vector>

#include "molar/io/json_config.h"
#include "molar/models/clip_encoder.h"

namespace molar {

/// text_encoder/config.json. Defaults are transformers'.
struct CLIPTextConfig {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 512;
  int64_t intermediate_size = 2048;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 8;
  int64_t max_position_embeddings = 77;
  CLIPActivation hidden_act = CLIPActivation::kQuickGelu;
  double layer_norm_eps = 1e-5;
  /// The token whose place is pooled. 2, which older files say whatever the vocabulary, means the
  /// largest id in the text; any other id its first place.
  int64_t eos_token_id = 49407;
  /// Width of text_embeds; nullopt: CLIPTextModel, which has no projection.
  std::optional<int64_t> projection_dim;

  /// `source` ("text_encoder/config.json") starts each message. Throws FileError that names a value
  /// which is not supported, malformed, or unknown.
  static CLIPTextConfig from_json(const Json& json, const std::string& source);
};

/// What the encoder makes of one batch of token ids. D = hidden_size.
struct CLIPTextOutput {
  /// The embeddings, then the result of each layer, all before the final norm: num_hidden_layers +
  /// 1 tensors [B, L, D].
  std::vector<Tensor> hidden_states;
  Tensor last_hidden_state;  ///< final_layer_norm of hidden_states.back(): [B, L, D]
  Tensor pooled_output;      ///< last_hidden_state at the end token: [B, D]
  Tensor text_embeds;        ///< projection of pooled_output: [B, projection_dim]; else undefined
};

class CLIPTextModelImpl final : public torch::nn::Module {
 public:
  explicit CLIPTextModelImpl(const CLIPTextConfig& config);

  /// ids: int64 [B, L], L <= max_position_embeddings. Throws Error for another shape or type,
  /// FileError for ids that the vocabulary does not have: the tokenizer is another model's.
  CLIPTextOutput forward(const Tensor& ids);

  /// The norm that ends the tower, for a hidden state other than the last (clip-skip).
  Tensor final_layer_norm(const Tensor& hidden_state) { return final_layer_norm_(hidden_state); }

  at::Device device() const { return token_embedding_->weight().device(); }
  const CLIPTextConfig& config() const { return config_; }

 private:
  Tensor embed(const Tensor& ids);
  Tensor pool(const Tensor& last_hidden_state, const Tensor& ids) const;

  CLIPTextConfig config_;
  Embedding token_embedding_{nullptr}, position_embedding_{nullptr};
  torch::nn::ModuleList layers_;
  LayerNorm final_layer_norm_{nullptr};
  Linear text_projection_{nullptr};
};
TORCH_MODULE(CLIPTextModel);

}  // namespace molar
