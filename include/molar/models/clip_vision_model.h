/// CLIP's picture encoder with its projection: transformers' CLIPVisionModelWithProjection (Radford
/// et al. 2021, arXiv:2103.00020).
#pragma once

#include <torch/torch.h>

#include <string>

#include "molar/io/json_config.h"
#include "molar/models/clip_encoder.h"

namespace molar {

/// config.json of a CLIPModel or a CLIPVisionModelWithProjection. Defaults are transformers'.
struct CLIPVisionConfig {
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t num_channels = 3;
  int64_t image_size = 224;  ///< side of the square, pixels
  int64_t patch_size = 32;
  CLIPActivation hidden_act = CLIPActivation::kQuickGelu;
  double layer_norm_eps = 1e-5;
  int64_t projection_dim = 512;

  /// Throws FileError that names a value which is not supported, malformed, or unknown.
  static CLIPVisionConfig from_json(const Json& json, const std::string& source);
};

class CLIPVisionModelImpl final : public torch::nn::Module {
 public:
  explicit CLIPVisionModelImpl(const CLIPVisionConfig& config);

  /// pixels: [B, 3, image_size, image_size], normalised. Returns image_embeds [B, projection_dim],
  /// of any length. Throws Error for another shape.
  Tensor forward(const Tensor& pixels);

  const CLIPVisionConfig& config() const { return config_; }

 private:
  CLIPVisionConfig config_;
  std::shared_ptr<torch::nn::Module> embeddings_;
  Tensor class_embedding_;
  Embedding position_embedding_{nullptr};
  LayerNorm pre_layrnorm_{nullptr}, post_layernorm_{nullptr};
  torch::nn::ModuleList layers_;
  Linear visual_projection_{nullptr};
};
TORCH_MODULE(CLIPVisionModel);

}  // namespace molar
