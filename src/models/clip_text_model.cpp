#include "molar/models/clip_text_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "config_fields.h"
#include "molar/core/error.h"

namespace molar {
namespace {

constexpr const char* kWithProjection = "CLIPTextModelWithProjection";

/// Which of the two classes the file describes.
bool has_projection(const JsonConfig& config) {
  const auto classes = config.get_or("architectures", std::vector<std::string>{"CLIPTextModel"});
  if (classes == std::vector<std::string>{"CLIPTextModel"}) return false;
  if (classes == std::vector<std::string>{kWithProjection}) return true;
  throw FileError(fmt::format("{}: 'architectures' is [{}]; molar supports CLIPTextModel and {}",
                              config.source(), fmt::join(classes, ", "), kWithProjection));
}

/// Read by training and generation code of transformers, never by the encoder.
void ignore_settings_without_effect(const JsonConfig& config) {
  config.ignore({"attention_dropout", "dropout", "initializer_factor", "initializer_range", "dtype",
                 "torch_dtype", "transformers_version", "pad_token_id", "bos_token_id",
                 "return_dict", "output_hidden_states", "output_attentions", "use_cache",
                 "tie_word_embeddings", "torchscript", "gradient_checkpointing"});
}

void check_sizes(const CLIPTextConfig& config, const std::string& source) {
  // Far beyond any real model; every layer costs time and memory before a weight is looked at.
  constexpr int64_t kWidest = 1 << 20, kDeepest = 64;
  require_sizes(source, {{"vocab_size", config.vocab_size, kWidest},
                         {"hidden_size", config.hidden_size, kWidest},
                         {"intermediate_size", config.intermediate_size, kWidest},
                         {"num_hidden_layers", config.num_hidden_layers, kDeepest},
                         {"num_attention_heads", config.num_attention_heads, kWidest},
                         {"max_position_embeddings", config.max_position_embeddings, kWidest},
                         {"projection_dim", config.projection_dim.value_or(1), kWidest}});
  require_even_heads(source, config.hidden_size, config.num_attention_heads);
}

}  // namespace

CLIPTextConfig CLIPTextConfig::from_json(const Json& json, const std::string& source) {
  const JsonConfig fields(json, source);
  refuse_null(fields, {"eos_token_id", "hidden_act", "hidden_size", "intermediate_size",
                       "layer_norm_eps", "max_position_embeddings", "num_attention_heads",
                       "num_hidden_layers", "projection_dim", "vocab_size"});
  CLIPTextConfig config;
  config.vocab_size = fields.get_or("vocab_size", config.vocab_size);
  config.hidden_size = fields.get_or("hidden_size", config.hidden_size);
  config.intermediate_size = fields.get_or("intermediate_size", config.intermediate_size);
  config.num_hidden_layers = fields.get_or("num_hidden_layers", config.num_hidden_layers);
  config.num_attention_heads = fields.get_or("num_attention_heads", config.num_attention_heads);
  config.max_position_embeddings =
      fields.get_or("max_position_embeddings", config.max_position_embeddings);
  fields.require_one_of("hidden_act", {"quick_gelu", "gelu"});
  if (fields.get_or<std::string>("hidden_act", "quick_gelu") == "gelu")
    config.hidden_act = CLIPActivation::kGelu;
  config.layer_norm_eps = fields.get_or("layer_norm_eps", config.layer_norm_eps);
  config.eos_token_id = fields.get_or("eos_token_id", config.eos_token_id);
  const auto projection_dim = fields.get_or<int64_t>("projection_dim", 512);
  if (has_projection(fields)) config.projection_dim = projection_dim;
  fields.require_one_of("model_type", {"clip_text_model"});
  ignore_settings_without_effect(fields);
  fields.refuse_unread_keys();
  check_sizes(config, source);
  return config;
}

CLIPTextModelImpl::CLIPTextModelImpl(const CLIPTextConfig& config) : config_(config) {
  const auto child = [](torch::nn::Module& parent, const char* name) {
    return parent.register_module(name, std::make_shared<torch::nn::Module>(name));
  };
  const auto text_model = child(*this, "text_model");
  const auto embeddings = child(*text_model, "embeddings");
  token_embedding_ = embeddings->register_module("token_embedding",
                                                 Embedding(config.vocab_size, config.hidden_size));
  position_embedding_ = embeddings->register_module(
      "position_embedding", Embedding(config.max_position_embeddings, config.hidden_size));
  layers_ = child(*text_model, "encoder")->register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < config.num_hidden_layers; ++i)
    layers_->push_back(
        CLIPEncoderLayer(CLIPEncoderLayerOptions{.hidden_size = config.hidden_size,
                                                 .intermediate_size = config.intermediate_size,
                                                 .num_attention_heads = config.num_attention_heads,
                                                 .hidden_act = config.hidden_act,
                                                 .layer_norm_eps = config.layer_norm_eps,
                                                 .attention = CLIPAttentionKind::kCausal}));
  final_layer_norm_ = text_model->register_module(
      "final_layer_norm", LayerNorm(config.hidden_size, config.layer_norm_eps));
  if (config.projection_dim)
    text_projection_ = register_module(
        "text_projection", Linear(config.hidden_size, *config.projection_dim, Bias::kNone));
}

CLIPTextOutput CLIPTextModelImpl::forward(const Tensor& ids) {
  CLIPTextOutput output;
  output.hidden_states.push_back(embed(ids));
  for (const auto& layer : *layers_)
    output.hidden_states.push_back(
        layer->as<CLIPEncoderLayerImpl>()->forward(output.hidden_states.back()));
  output.last_hidden_state = final_layer_norm_(output.hidden_states.back());
  output.pooled_output = pool(output.last_hidden_state, ids);
  if (text_projection_) output.text_embeds = text_projection_(output.pooled_output);
  return output;
}

Tensor CLIPTextModelImpl::embed(const Tensor& ids) {
  if (ids.scalar_type() != at::kLong || ids.dim() != 2 || ids.numel() == 0 ||
      ids.size(1) > config_.max_position_embeddings)
    throw Error(fmt::format("token ids must be int64 [B, L] with L in [1, {}], are {} {}",
                            config_.max_position_embeddings, dtype_name(ids.scalar_type()),
                            shape_string(ids.sizes())));
  const auto smallest = ids.min().item<int64_t>(), largest = ids.max().item<int64_t>();
  if (smallest < 0 || largest >= config_.vocab_size)
    throw FileError(
        fmt::format("token id {} is not in the text encoder's vocabulary of {}; is the tokenizer "
                    "another model's?",
                    smallest < 0 ? smallest : largest, config_.vocab_size));
  const Tensor positions = at::arange(ids.size(1), ids.options());
  return add_reusing(token_embedding_(ids), position_embedding_(positions));  // [B, L, D]
}

Tensor CLIPTextModelImpl::pool(const Tensor& last_hidden_state, const Tensor& ids) const {
  constexpr int64_t kLegacyEos = 2;  // see CLIPTextConfig::eos_token_id
  // int32: argmax finds the first of equal values there, as the reference relies on.
  const Tensor score =
      (config_.eos_token_id == kLegacyEos ? ids : ids.eq(config_.eos_token_id)).to(at::kInt);
  const Tensor places = score.argmax(/*dim=*/-1);  // [B]
  const Tensor rows = at::arange(ids.size(0), ids.options());
  return at::index(last_hidden_state, {rows, places});  // [B, D]
}

}  // namespace molar
