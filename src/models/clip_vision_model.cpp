#include "molar/models/clip_vision_model.h"

#include <fmt/format.h>

#include "config_fields.h"
#include "molar/core/error.h"
#include "patch_embedding.h"

namespace molar {
namespace {

void check_sizes(const CLIPVisionConfig& config, const std::string& source) {
  constexpr int64_t kWidest = 1 << 20, kDeepest = 128;
  require_sizes(source, {{"hidden_size", config.hidden_size, kWidest},
                         {"intermediate_size", config.intermediate_size, kWidest},
                         {"num_hidden_layers", config.num_hidden_layers, kDeepest},
                         {"num_attention_heads", config.num_attention_heads, kWidest},
                         {"image_size", config.image_size, 1 << 14},
                         {"patch_size", config.patch_size, config.image_size},
                         {"projection_dim", config.projection_dim, kWidest}});
  require_even_heads(source, config.hidden_size, config.num_attention_heads);
}

}  // namespace

CLIPVisionConfig CLIPVisionConfig::from_json(const Json& json, const std::string& source) {
  const bool is_pair = json.is_object() && json.value("model_type", "") == "clip";
  if (is_pair && !json.contains("vision_config"))
    throw FileError(fmt::format("{}: 'vision_config' is missing", source));
  const JsonConfig fields(is_pair ? json.at("vision_config") : json,
                          is_pair ? source + ": vision_config" : source);
  fields.require_one_of("model_type", {"clip_vision_model"});
  CLIPVisionConfig config;
  config.hidden_size = fields.get_or("hidden_size", config.hidden_size);
  config.intermediate_size = fields.get_or("intermediate_size", config.intermediate_size);
  config.num_hidden_layers = fields.get_or("num_hidden_layers", config.num_hidden_layers);
  config.num_attention_heads = fields.get_or("num_attention_heads", config.num_attention_heads);
  fields.require_one_of("num_channels", {3});
  config.image_size = fields.get_or("image_size", config.image_size);
  config.patch_size = fields.get_or("patch_size", config.patch_size);
  fields.require_one_of("hidden_act", {"quick_gelu", "gelu"});
  if (fields.get_or<std::string>("hidden_act", "quick_gelu") == "gelu")
    config.hidden_act = CLIPActivation::kGelu;
  config.layer_norm_eps = fields.get_or("layer_norm_eps", config.layer_norm_eps);
  config.projection_dim = fields.get_or("projection_dim", config.projection_dim);
  if (is_pair)
    config.projection_dim = JsonConfig(json, source).get_or("projection_dim", int64_t{512});
  check_sizes(config, source);
  return config;
}

CLIPVisionModelImpl::CLIPVisionModelImpl(const CLIPVisionConfig& config) : config_(config) {
  const auto child = [](torch::nn::Module& parent, const char* name) {
    return parent.register_module(name, std::make_shared<torch::nn::Module>(name));
  };
  const auto vision_model = child(*this, "vision_model");
  embeddings_ = child(*vision_model, "embeddings");
  class_embedding_ = embeddings_->register_parameter(
      "class_embedding", unallocated_parameter({config.hidden_size}), /*requires_grad=*/false);
  embeddings_->register_module(
      "patch_embedding",
      PatchEmbedding(config.num_channels, config.hidden_size, config.patch_size, Bias::kNone));
  const int64_t side = config.image_size / config.patch_size;
  position_embedding_ = embeddings_->register_module(
      "position_embedding", Embedding(side * side + 1, config.hidden_size));
  pre_layrnorm_ = vision_model->register_module(
      "pre_layrnorm", LayerNorm(config.hidden_size, config.layer_norm_eps));
  layers_ = child(*vision_model, "encoder")->register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < config.num_hidden_layers; ++i)
    layers_->push_back(
        CLIPEncoderLayer(CLIPEncoderLayerOptions{.hidden_size = config.hidden_size,
                                                 .intermediate_size = config.intermediate_size,
                                                 .num_attention_heads = config.num_attention_heads,
                                                 .hidden_act = config.hidden_act,
                                                 .layer_norm_eps = config.layer_norm_eps,
                                                 .attention = CLIPAttentionKind::kFull}));
  post_layernorm_ = vision_model->register_module(
      "post_layernorm", LayerNorm(config.hidden_size, config.layer_norm_eps));
  visual_projection_ = register_module(
      "visual_projection", Linear(config.hidden_size, config.projection_dim, Bias::kNone));
}

Tensor CLIPVisionModelImpl::forward(const Tensor& pixels) {
  check_shape(pixels, {-1, config_.num_channels, config_.image_size, config_.image_size}, "pixels");
  const auto patches = embeddings_->named_children()["patch_embedding"]->as<PatchEmbeddingImpl>();
  const Tensor first = class_embedding_.expand({pixels.size(0), 1, config_.hidden_size});
  Tensor x = at::cat({first, patches->forward(pixels)}, 1) + position_embedding_->weight();
  x = pre_layrnorm_(x);
  for (const auto& layer : *layers_) x = layer->as<CLIPEncoderLayerImpl>()->forward(x);
  return visual_projection_(post_layernorm_(x.select(1, 0)));
}

}  // namespace molar
