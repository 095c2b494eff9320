/// Layers of the full-size models. Building them costs nothing: parameters are not allocated.
#pragma once

#include <string>

#include "molar/adapters/model_layers.h"
#include "molar/io/json_config.h"
#include "molar/models/clip_text_model.h"
#include "molar/models/module_index.h"
#include "molar/models/unet_2d_condition.h"

namespace molar::test {

inline Json full_unet_config(ModelFamily family) {
  static const char* const kSd1 = R"({
    "in_channels": 4, "out_channels": 4, "sample_size": 64, "layers_per_block": 2, "cross_attention_dim": 768,
    "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]})";
  static const char* const kSd2 = R"({
    "in_channels": 4, "out_channels": 4, "sample_size": 96, "layers_per_block": 2, "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20], "block_out_channels": [320, 640, 1280, 1280],
    "use_linear_projection": true, "upcast_attention": true,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]})";
  static const char* const kSdxl = R"({
    "in_channels": 4, "out_channels": 4, "sample_size": 128, "layers_per_block": 2, "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "use_linear_projection": true,
    "transformer_layers_per_block": [1, 2, 10], "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]})";
  return Json::parse(family == ModelFamily::kSd1   ? kSd1
                     : family == ModelFamily::kSd2 ? kSd2
                                                   : kSdxl);
}

struct FullSizeModel {
  UNet2DConditionModel unet{nullptr};
  CLIPTextModel text_encoder{nullptr}, text_encoder_2{nullptr};
  ModelLayers layers;
};

inline FullSizeModel full_size_model(ModelFamily family) {
  const auto text_model = [](int64_t width, int64_t num_layers, std::optional<int64_t> projection) {
    CLIPTextConfig config;
    config.hidden_size = width;
    config.intermediate_size = 4 * width;
    config.num_hidden_layers = num_layers;
    config.num_attention_heads = width / 64;
    config.projection_dim = projection;
    return CLIPTextModel(config);
  };
  FullSizeModel model;
  model.unet = UNet2DConditionModel(
      UNet2DConditionConfig::from_json(full_unet_config(family), "unet/config.json"));
  model.text_encoder =
      family == ModelFamily::kSd2 ? text_model(1024, 23, {}) : text_model(768, 12, {});
  model.layers.family = family;
  model.layers.components["unet"] = adaptable_layers(*model.unet);
  model.layers.components["text_encoder"] = adaptable_layers(*model.text_encoder);
  if (family == ModelFamily::kSdxl) {
    model.text_encoder_2 = text_model(1280, 32, 1280);
    model.layers.components["text_encoder_2"] = adaptable_layers(*model.text_encoder_2);
  }
  return model;
}

inline const ModelFamily kFamilies[] = {ModelFamily::kSd1, ModelFamily::kSd2, ModelFamily::kSdxl};

}  // namespace molar::test
