/// The vision transformers of DINO and DINOv2 as transformers has them, ViTModel and Dinov2Model
/// (Caron et al. 2021, arXiv:2104.14294; Oquab et al. 2023, arXiv:2304.07193).
#pragma once

#include <torch/torch.h>

#include <string>

#include "molar/io/json_config.h"
#include "molar/models/layers.h"

namespace molar {

/// config.json. Defaults are transformers'.
struct DinoConfig {
  enum class Kind { kViT, kDinov2 };
  Kind kind = Kind::kViT;
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t image_size = 224;  ///< that the position embeddings were learnt for, pixels
  int64_t patch_size = 16;
  double layer_norm_eps = 1e-12;
  bool qkv_bias = true;

  /// Throws FileError that names a value which is not supported, malformed, or unknown.
  static DinoConfig from_json(const Json& json, const std::string& source);
};

class DinoModelImpl final : public torch::nn::Module {
 public:
  explicit DinoModelImpl(const DinoConfig& config);

  /// pixels: [B, 3, H, W], normalised; H and W multiples of patch_size. Where they are not
  /// image_size, the position embeddings are interpolated (bicubic). Returns the class token after
  /// the last norm: [B, hidden_size]. Throws Error for another shape.
  Tensor forward(const Tensor& pixels);

  const DinoConfig& config() const { return config_; }

 private:
  Tensor positions(int64_t rows, int64_t columns) const;

  DinoConfig config_;
  Tensor cls_token_, position_embeddings_;
  std::shared_ptr<torch::nn::Module> patches_;
  torch::nn::ModuleList layers_;
  LayerNorm layernorm_{nullptr};
};
TORCH_MODULE(DinoModel);

}  // namespace molar
