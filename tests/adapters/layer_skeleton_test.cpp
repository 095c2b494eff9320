#include "molar/adapters/layer_skeleton.h"

#include "lora_fixtures.h"

namespace molar {
namespace {

using test::golden;

TEST(LayerSkeleton, OfACheckpointHasItsLayersAndNoWeights) {
  for (const auto& [name, family, num_encoders] :
       {std::tuple<const char*, ModelFamily, size_t>{"sd15-tiny", ModelFamily::kSd1, 1},
        {"sd21-tiny", ModelFamily::kSd2, 1},
        {"sdxl-tiny", ModelFamily::kSdxl, 2}}) {
    const Checkpoint checkpoint = open_checkpoint(golden(std::string("models/") + name), {});
    const LayerSkeleton skeleton(checkpoint);
    EXPECT_EQ(skeleton.layers().family, family);
    EXPECT_EQ(skeleton.text_configs().size(), num_encoders);
    EXPECT_EQ(skeleton.layers().components.size(), num_encoders + 1);
    for (const auto& [component, index] : skeleton.layers().components)
      for (const auto& [module, layer] : index)
        EXPECT_EQ(layer->weight().sizes(),
                  checkpoint.component(component).weights.at(module + ".weight").sizes())
            << component << " " << module;
  }
}

TEST(LayerSkeleton, OfAFamilyIsThePublishedModel) {
  // Attention layers of the UNets, as they are known: 16 and 70 transformer blocks of 8 each.
  for (const auto& [family, attention, text_width, text_layers] :
       {std::tuple<ModelFamily, int64_t, int64_t, int64_t>{ModelFamily::kSd1, 128, 768, 12},
        {ModelFamily::kSd2, 128, 1024, 23},
        {ModelFamily::kSdxl, 560, 2048, 12}}) {
    const LayerSkeleton skeleton(family);
    int64_t found = 0;
    for (const auto& [module, layer] : skeleton.layers().components.at("unet")) {
      const bool keys = module.ends_with("attn2.to_k") || module.ends_with("attn2.to_v");
      if (keys) {
        EXPECT_EQ(layer->weight().size(1), text_width) << module;
      }
      found += module.find(".attn") != std::string::npos;
    }
    EXPECT_EQ(found, attention);
    EXPECT_EQ(skeleton.text_configs().front().num_hidden_layers, text_layers);
  }
  EXPECT_EQ(LayerSkeleton(ModelFamily::kSdxl).text_configs().back().num_hidden_layers, 32);
}

}  // namespace
}  // namespace molar
