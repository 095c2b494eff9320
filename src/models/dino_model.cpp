#include "molar/models/dino_model.h"

#include <fmt/format.h>

#include "config_fields.h"
#include "molar/core/error.h"
#include "patch_embedding.h"

namespace molar {
namespace {

using Kind = DinoConfig::Kind;

/// What the two call the parts of a layer.
struct LayerNames {
  const char *norm1, *norm2;
  const char *fc1_parent, *fc1, *fc2_parent, *fc2;
  bool scales;  ///< each part's result is scaled, channel by channel (layer_scale1, layer_scale2)
};

const LayerNames& names_of(Kind kind) {
  static const LayerNames vit{"layernorm_before", "layernorm_after", "intermediate", "dense",
                              "output",           "dense",           false};
  static const LayerNames dinov2{"norm1", "norm2", "mlp", "fc1", "mlp", "fc2", true};
  return kind == Kind::kViT ? vit : dinov2;
}

std::shared_ptr<torch::nn::Module> child(torch::nn::Module& parent, const std::string& name) {
  const auto children = parent.named_children();  // a copy
  if (const auto* const found = children.find(name)) return *found;
  return parent.register_module(name, std::make_shared<torch::nn::Module>(name));
}

class DinoLayerImpl final : public torch::nn::Module {
 public:
  explicit DinoLayerImpl(const DinoConfig& config) : num_heads_(config.num_attention_heads) {
    const LayerNames& names = names_of(config.kind);
    const int64_t width = config.hidden_size;
    norm1_ = register_module(names.norm1, LayerNorm(width, config.layer_norm_eps));
    norm2_ = register_module(names.norm2, LayerNorm(width, config.layer_norm_eps));
    const auto attention = child(*this, "attention"), inner = child(*attention, "attention");
    const Bias bias = config.qkv_bias ? Bias::kLearned : Bias::kNone;
    query_ = inner->register_module("query", Linear(width, width, bias));
    key_ = inner->register_module("key", Linear(width, width, bias));
    value_ = inner->register_module("value", Linear(width, width, bias));
    dense_ = child(*attention, "output")->register_module("dense", Linear(width, width));
    fc1_ = child(*this, names.fc1_parent)
               ->register_module(names.fc1, Linear(width, config.intermediate_size));
    fc2_ = child(*this, names.fc2_parent)
               ->register_module(names.fc2, Linear(config.intermediate_size, width));
    if (!names.scales) return;
    const auto scale = [&](const char* name) {
      return child(*this, name)
          ->register_parameter("lambda1", unallocated_parameter({width}),
                               /*requires_grad=*/false);
    };
    scale1_ = scale("layer_scale1");
    scale2_ = scale("layer_scale2");
  }

  Tensor forward(const Tensor& x) {
    const Tensor attended = x + scaled(attend(norm1_(x)), scale1_);
    return attended + scaled(fc2_(at::gelu(fc1_(norm2_(attended)))), scale2_);
  }

 private:
  static Tensor scaled(const Tensor& x, const Tensor& scale) {
    return scale.defined() ? x * scale : x;
  }
  Tensor attend(const Tensor& x) {
    const auto split_heads = [this](const Tensor& t) {  // [B, L, D] -> [B, heads, L, D / heads]
      return t.unflatten(-1, {num_heads_, -1}).transpose(1, 2);
    };
    const Tensor heads = at::scaled_dot_product_attention(
        split_heads(query_(x)), split_heads(key_(x)), split_heads(value_(x)));
    return dense_(heads.transpose(1, 2).flatten(2));
  }

  int64_t num_heads_;
  LayerNorm norm1_{nullptr}, norm2_{nullptr};
  Linear query_{nullptr}, key_{nullptr}, value_{nullptr}, dense_{nullptr}, fc1_{nullptr},
      fc2_{nullptr};
  Tensor scale1_, scale2_;
};
TORCH_MODULE(DinoLayer);

void check_sizes(const DinoConfig& config, const std::string& source) {
  constexpr int64_t kWidest = 1 << 20, kDeepest = 128;
  require_sizes(source, {{"hidden_size", config.hidden_size, kWidest},
                         {"intermediate_size", config.intermediate_size, kWidest},
                         {"num_hidden_layers", config.num_hidden_layers, kDeepest},
                         {"num_attention_heads", config.num_attention_heads, kWidest},
                         {"image_size", config.image_size, 1 << 14},
                         {"patch_size", config.patch_size, config.image_size}});
  require_even_heads(source, config.hidden_size, config.num_attention_heads);
}

}  // namespace

DinoConfig DinoConfig::from_json(const Json& json, const std::string& source) {
  const JsonConfig fields(json, source);
  const auto type = fields.get<std::string>("model_type");
  if (type != "vit" && type != "dinov2")
    throw FileError(fmt::format("{}: 'model_type' is '{}'; molar supports vit (DINO) and dinov2",
                                source, type));
  DinoConfig config;
  if (type == "dinov2") {
    config.kind = Kind::kDinov2;
    config.layer_norm_eps = 1e-6;
    config.patch_size = 14;
    if (fields.get_or("use_swiglu_ffn", false))
      throw FileError(
          fmt::format("{}: 'use_swiglu_ffn' is true, which molar does not support", source));
  }
  config.hidden_size = fields.get_or("hidden_size", config.hidden_size);
  config.num_hidden_layers = fields.get_or("num_hidden_layers", config.num_hidden_layers);
  config.num_attention_heads = fields.get_or("num_attention_heads", config.num_attention_heads);
  config.intermediate_size = config.kind == Kind::kDinov2
                                 ? config.hidden_size * fields.get_or("mlp_ratio", int64_t{4})
                                 : fields.get_or("intermediate_size", config.intermediate_size);
  config.image_size = fields.get_or("image_size", config.image_size);
  config.patch_size = fields.get_or("patch_size", config.patch_size);
  config.layer_norm_eps = fields.get_or("layer_norm_eps", config.layer_norm_eps);
  config.qkv_bias = fields.get_or("qkv_bias", true);
  fields.require_one_of("num_channels", {3});
  fields.require_one_of("hidden_act", {"gelu"});
  check_sizes(config, source);
  return config;
}

DinoModelImpl::DinoModelImpl(const DinoConfig& config) : config_(config) {
  const auto embeddings = child(*this, "embeddings");
  const int64_t side = config.image_size / config.patch_size;
  cls_token_ = embeddings->register_parameter(
      "cls_token", unallocated_parameter({1, 1, config.hidden_size}), /*requires_grad=*/false);
  position_embeddings_ = embeddings->register_parameter(
      "position_embeddings", unallocated_parameter({1, side * side + 1, config.hidden_size}),
      /*requires_grad=*/false);
  patches_ = child(*embeddings, "patch_embeddings");
  patches_->register_module(
      "projection", PatchEmbedding(3, config.hidden_size, config.patch_size, Bias::kLearned));
  layers_ = child(*this, "encoder")->register_module("layer", torch::nn::ModuleList());
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) layers_->push_back(DinoLayer(config));
  layernorm_ = register_module("layernorm", LayerNorm(config.hidden_size, config.layer_norm_eps));
}

Tensor DinoModelImpl::positions(int64_t rows, int64_t columns) const {
  const int64_t side = config_.image_size / config_.patch_size;
  if (rows == side && columns == side) return position_embeddings_;
  const Tensor grid = position_embeddings_.narrow(1, 1, side * side)
                          .view({1, side, side, config_.hidden_size})
                          .permute({0, 3, 1, 2});
  const Tensor resized =
      at::upsample_bicubic2d(grid.to(at::kFloat), {rows, columns}, /*align_corners=*/false)
          .to(grid.scalar_type());
  return at::cat({position_embeddings_.narrow(1, 0, 1), resized.flatten(2).transpose(1, 2)}, 1);
}

Tensor DinoModelImpl::forward(const Tensor& pixels) {
  check_shape(pixels, {-1, 3, -1, -1}, "pixels");
  const int64_t height = pixels.size(2), width = pixels.size(3), patch = config_.patch_size;
  if (height % patch != 0 || width % patch != 0)
    throw Error(
        fmt::format("pixels: {} x {} cannot be cut into patches of {}", width, height, patch));
  const auto projection = patches_->named_children()["projection"]->as<PatchEmbeddingImpl>();
  const Tensor first = cls_token_.expand({pixels.size(0), 1, config_.hidden_size});
  Tensor x =
      at::cat({first, projection->forward(pixels)}, 1) + positions(height / patch, width / patch);
  for (const auto& layer : *layers_) x = layer->as<DinoLayerImpl>()->forward(x);
  return layernorm_(x.select(1, 0));
}

}  // namespace molar
