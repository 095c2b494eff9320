#include "molar/adapters/layer_skeleton.h"

#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"

namespace molar {
namespace {

/// What decides names and shapes in the published config.json files.
struct PublishedConfigs {
  ModelFamily family;
  const char* unet;
  std::vector<std::pair<const char*, const char*>> text_encoders;
};

const std::vector<PublishedConfigs>& published_configs() {
  static const std::vector<PublishedConfigs> kConfigs = {
      {ModelFamily::kSd1,
       R"({"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
           "cross_attention_dim": 768, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4,
           "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                "CrossAttnDownBlock2D", "DownBlock2D"],
           "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                              "CrossAttnUpBlock2D"]})",
       {{"text_encoder",
         R"({"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
             "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77})"}}},
      {ModelFamily::kSd2,
       R"({"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
           "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "in_channels": 4,
           "out_channels": 4, "use_linear_projection": true,
           "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                "CrossAttnDownBlock2D", "DownBlock2D"],
           "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                              "CrossAttnUpBlock2D"]})",
       {{"text_encoder",
         R"({"vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096,
             "num_hidden_layers": 23, "num_attention_heads": 16, "max_position_embeddings": 77,
             "hidden_act": "gelu"})"}}},
      {ModelFamily::kSdxl,
       R"({"block_out_channels": [320, 640, 1280], "layers_per_block": 2,
           "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20], "in_channels": 4,
           "out_channels": 4, "use_linear_projection": true,
           "transformer_layers_per_block": [1, 2, 10], "addition_embed_type": "text_time",
           "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
           "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
           "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]})",
       {{"text_encoder",
         R"({"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
             "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77})"},
        {"text_encoder_2",
         R"({"vocab_size": 49408, "hidden_size": 1280, "intermediate_size": 5120,
             "num_hidden_layers": 32, "num_attention_heads": 20, "max_position_embeddings": 77,
             "hidden_act": "gelu", "projection_dim": 1280,
             "architectures": ["CLIPTextModelWithProjection"]})"}}},
  };
  return kConfigs;
}

}  // namespace

LayerSkeleton::LayerSkeleton(const Checkpoint& checkpoint) {
  layers_.family = checkpoint.family;
  add(make_unet(checkpoint.component("unet")));
  for (const char* name : {"text_encoder", "text_encoder_2"})
    if (checkpoint.has(name)) add(name, make_text_encoder(checkpoint.component(name)));
}

LayerSkeleton::LayerSkeleton(ModelFamily family) {
  layers_.family = family;
  for (const PublishedConfigs& configs : published_configs()) {
    if (configs.family != family) continue;
    add(UNet2DConditionModel(
        UNet2DConditionConfig::from_json(parse_json(configs.unet, "unet"), "unet")));
    for (const auto& [name, text] : configs.text_encoders)
      add(name, CLIPTextModel(CLIPTextConfig::from_json(parse_json(text, name), name)));
  }
}

void LayerSkeleton::add(UNet2DConditionModel unet) {
  layers_.components["unet"] = adaptable_layers(*unet);
  modules_.push_back(unet.ptr());
}

void LayerSkeleton::add(const std::string& name, CLIPTextModel encoder) {
  text_configs_.push_back(encoder->config());
  layers_.components[name] = adaptable_layers(*encoder);
  modules_.push_back(encoder.ptr());
}

}  // namespace molar
