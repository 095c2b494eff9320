/// A model's adaptable layers without its weights: names and shapes, which is all that reading and
/// merging LoRA files needs.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "molar/adapters/model_layers.h"
#include "molar/models/clip_text_model.h"
#include "molar/models/unet_2d_condition.h"

namespace molar {

/// Owns the empty modules that its layers point into.
class LayerSkeleton {
 public:
  /// The UNet and the text encoders of a checkpoint. Throws FileError for configs and tensors that
  /// molar cannot use.
  explicit LayerSkeleton(const Checkpoint& checkpoint);
  /// Those of the published base model: stable-diffusion-v1-5, stable-diffusion-2-1,
  /// stable-diffusion-xl-base-1.0.
  explicit LayerSkeleton(ModelFamily family);

  const ModelLayers& layers() const { return layers_; }
  /// Of each text encoder, the first first.
  const std::vector<CLIPTextConfig>& text_configs() const { return text_configs_; }

 private:
  void add(UNet2DConditionModel unet);
  void add(const std::string& name, CLIPTextModel encoder);

  ModelLayers layers_;
  std::vector<CLIPTextConfig> text_configs_;
  std::vector<std::shared_ptr<torch::nn::Module>> modules_;
};

}  // namespace molar
