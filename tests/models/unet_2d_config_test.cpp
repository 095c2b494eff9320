#include <gtest/gtest.h>

#include <filesystem>

#include "molar/core/error.h"
#include "molar/models/unet_2d_condition.h"

namespace molar {
namespace {

using Depths = std::vector<int64_t>;

UNet2DConditionConfig read(const Json& json) {
  return UNet2DConditionConfig::from_json(json, "unet/config.json");
}

std::string error_of(const Json& json) {
  try {
    read(json);
  } catch (const FileError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

// What the public files of the three families say.
Json sd15() {
  return Json::parse(
      R"({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
    "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
    "cross_attention_dim": 768, "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
    "CrossAttnDownBlock2D", "DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0,
    "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05,
    "norm_num_groups": 32, "out_channels": 4, "sample_size": 64, "up_block_types": ["UpBlock2D",
    "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]})");
}

Json sdxl() {
  Json json = sd15();
  json.update(
      Json::parse(R"({"addition_embed_type": "text_time", "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
    "class_embed_type": null, "class_embeddings_concat": false, "conv_in_kernel": 3, "conv_out_kernel": 3,
    "cross_attention_dim": 2048, "cross_attention_norm": null, "down_block_types": ["DownBlock2D",
    "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "dual_cross_attention": false, "encoder_hid_dim": null,
    "encoder_hid_dim_type": null, "mid_block_only_cross_attention": null,
    "mid_block_type": "UNetMidBlock2DCrossAttn", "num_attention_heads": null, "num_class_embeds": null,
    "only_cross_attention": false, "projection_class_embeddings_input_dim": 2816,
    "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": false, "resnet_time_scale_shift": "default",
    "sample_size": 128, "time_cond_proj_dim": null, "time_embedding_act_fn": null, "time_embedding_dim": null,
    "time_embedding_type": "positional", "timestep_post_act": null, "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "upcast_attention": null,
    "use_linear_projection": true})"));
  return json;
}

Json with(Json json, const Json& changes) {
  json.update(changes);
  return json;
}

TEST(UNet2DConditionConfig, ReadsSd15WhereHeadDimMeansHeads) {
  const auto config = read(sd15());
  ASSERT_EQ(config.levels.size(), 4u);
  EXPECT_EQ(config.levels[1].channels, 640);
  EXPECT_EQ(config.levels[1].heads, 8);
  EXPECT_EQ(config.levels[2].down_transformer_layers, (Depths{1, 1}));
  EXPECT_EQ(config.levels[2].up_transformer_layers, (Depths{1, 1, 1}));
  EXPECT_TRUE(config.levels[3].down_transformer_layers.empty());
  EXPECT_TRUE(config.levels[3].up_transformer_layers.empty());
  EXPECT_EQ(config.cross_attention_dim, 768);
  EXPECT_EQ(config.time_embedding_dim, 1280);
  EXPECT_FALSE(config.use_linear_projection);
  EXPECT_FALSE(config.addition_time_embed_dim);
}

TEST(UNet2DConditionConfig, ReadsSdxlDepthsAndSizes) {
  const auto config = read(sdxl());
  ASSERT_EQ(config.levels.size(), 3u);
  EXPECT_EQ(config.levels[2].heads, 20);
  EXPECT_TRUE(config.levels[0].down_transformer_layers.empty());
  EXPECT_TRUE(config.levels[0].up_transformer_layers.empty());
  EXPECT_EQ(config.levels[1].down_transformer_layers, (Depths{2, 2}));
  EXPECT_EQ(config.levels[2].up_transformer_layers, (Depths{10, 10, 10}));
  EXPECT_EQ(config.mid_transformer_layers, 10);
  EXPECT_EQ(config.addition_time_embed_dim, 256);
  EXPECT_EQ(config.add_embedding_input_dim, 2816);
  EXPECT_EQ(config.sample_size, 128);
  EXPECT_TRUE(config.use_linear_projection);
}

TEST(UNet2DConditionConfig, HasDiffusersDefaultsForAnEmptyObject) {
  const auto config = read(Json::object());
  ASSERT_EQ(config.levels.size(), 4u);
  EXPECT_EQ(config.levels[3].channels, 1280);
  EXPECT_EQ(config.cross_attention_dim, 1280);
  EXPECT_EQ(config.levels[0].heads, 8);
  EXPECT_EQ(config.norm_num_groups, 32);
  EXPECT_EQ(config.mid_block_type, UNetMidBlockType::kCrossAttention);
}

TEST(UNet2DConditionConfig, ReadsListsForEachBlock) {
  const auto config = read(with(sd15(), {{"attention_head_dim", {5, 10, 20, 20}},
                                         {"layers_per_block", {1, 2, 3, 4}},
                                         {"only_cross_attention", {true, false, false, true}},
                                         {"cross_attention_dim", {768, 768, 768, 768}},
                                         {"sample_size", {96, 96}},
                                         {"time_cond_proj_dim", 256}}));
  EXPECT_EQ(config.levels[1].heads, 10);
  EXPECT_EQ(config.levels[2].down_transformer_layers, (Depths{1, 1, 1}));
  EXPECT_EQ(config.levels[2].up_transformer_layers.size(), 4u);
  EXPECT_TRUE(config.levels[0].only_cross_attention);
  EXPECT_FALSE(config.levels[1].only_cross_attention);
  EXPECT_EQ(config.sample_size, 96);
  EXPECT_EQ(config.time_cond_proj_dim, 256);
}

TEST(UNet2DConditionConfig, ReadsDepthsOfSingleLayers) {
  const auto config = read(
      with(sdxl(), {{"transformer_layers_per_block", {1, Json::array({2, 3}), Json::array({4, 5})}},
                    {"reverse_transformer_layers_per_block",
                     {Json::array({4, 4, 10}), Json::array({2, 1, 1}), 1}},
                    {"mid_block_type", nullptr}}));
  EXPECT_EQ(config.levels[1].down_transformer_layers, (Depths{2, 3}));
  EXPECT_EQ(config.levels[2].up_transformer_layers, (Depths{4, 4, 10}));
  EXPECT_EQ(config.levels[1].up_transformer_layers, (Depths{2, 1, 1}));
  EXPECT_EQ(config.mid_transformer_layers, 4);
  EXPECT_EQ(config.mid_block_type, UNetMidBlockType::kNone);
}

TEST(UNet2DConditionConfig, AcceptsTheNamesOfOldCheckpoints) {
  Json json = sd15();
  json["down_block_types"][3] = "UNetResDownBlock2D";
  json["up_block_types"][0] = "UNetResUpBlock2D";
  EXPECT_TRUE(read(json).levels[3].up_transformer_layers.empty());
}

struct Refusal {
  Json change;
  std::string wanted_part;
};

TEST(UNet2DConditionConfig, RefusesByNameWhatIsNotSupported) {
  const std::vector<Refusal> refusals = {
      {{{"class_embed_type", "timestep"}},
       "'class_embed_type' is \"timestep\"; molar supports null"},
      {{{"act_fn", "mish"}}, "'act_fn' is \"mish\"; molar supports \"silu\", \"swish\""},
      {{{"act_fn", nullptr}}, "'act_fn' = null"},
      {{{"addition_embed_type", "image"}}, "'addition_embed_type' is \"image\""},
      {{{"attention_type", "gated"}}, "'attention_type' is \"gated\""},
      {{{"class_embeddings_concat", true}}, "'class_embeddings_concat' is true"},
      {{{"dual_cross_attention", true}}, "'dual_cross_attention' is true; molar supports false"},
      {{{"encoder_hid_dim", 768}}, "'encoder_hid_dim' is 768"},
      {{{"encoder_hid_dim_type", "text_proj"}}, "'encoder_hid_dim_type' is \"text_proj\""},
      {{{"mid_block_type", "UNetMidBlock2DSimpleCrossAttn"}}, "'mid_block_type' is"},
      {{{"num_attention_heads", 8}}, "'num_attention_heads' is 8; molar supports null"},
      {{{"num_class_embeds", 1000}}, "'num_class_embeds' is 1000"},
      {{{"resnet_time_scale_shift", "spatial"}}, "'resnet_time_scale_shift' is \"spatial\""},
      {{{"time_embedding_act_fn", "silu"}}, "'time_embedding_act_fn' is \"silu\""},
      {{{"time_embedding_type", "fourier"}}, "'time_embedding_type' is \"fourier\""},
      {{{"timestep_post_act", "silu"}}, "'timestep_post_act' is \"silu\""},
      {{{"norm_num_groups", nullptr}}, "'norm_num_groups' = null is not supported"},
      {{{"sample_size", nullptr}}, "'sample_size' = null is not supported"},
      {{{"flip_sin_to_cos", nullptr}}, "'flip_sin_to_cos' = null is not supported"},
      {{{"down_block_types", {"KDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"}}},
       "'down_block_types' has a 'KDownBlock2D', which is not supported"},
      {{{"up_block_types", {"DownBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"}}},
       "'up_block_types' has a 'DownBlock2D'"},
      {{{"cross_attention_dim", {768, 768, 768, 1024}}},
       "'cross_attention_dim' differs between blocks"},
      {{{"a_setting_of_tomorrow", 1}}, "'a_setting_of_tomorrow' = 1"},
  };
  for (const auto& [change, wanted_part] : refusals) {
    const std::string message = error_of(with(sd15(), change));
    EXPECT_TRUE(message.starts_with("unet/config.json: ")) << message;
    EXPECT_NE(message.find(wanted_part), std::string::npos) << message;
  }
}

TEST(UNet2DConditionConfig, RefusesValuesThatNoModelCanHave) {
  const std::vector<Refusal> refusals = {
      {{{"block_out_channels", Json::array()}}, "'block_out_channels' has 0 blocks"},
      {{{"block_out_channels", {320, 640}}},
       "'down_block_types' has 4 blocks, 'block_out_channels' 2"},
      {{{"block_out_channels", {320, 640, 1280, 1290}}},
       "which 'norm_num_groups' = 32 does not divide"},
      {{{"block_out_channels", {320, 640, 1280, int64_t{1} << 60}}},
       "'block_out_channels' = 1152921504606846976"},
      {{{"block_out_channels", {0, 640, 1280, 1280}}}, "'block_out_channels' = 0 is out of range"},
      {{{"attention_head_dim", 0}}, "'attention_head_dim' = 0 is out of range"},
      {{{"attention_head_dim", 512}}, "'attention_head_dim' asks for 512 heads in a block of 320"},
      {{{"layers_per_block", {2, 2}}}, "'layers_per_block'"},
      {{{"layers_per_block", -1}}, "'layers_per_block' = -1 is out of range; wanted 1 to 64"},
      {{{"only_cross_attention", {true}}},
       "'only_cross_attention' must be one value or 4 (one per block), has 1"},
      {{{"transformer_layers_per_block", {1, 2}}},
       "'transformer_layers_per_block' must be one number or 4"},
      {{{"transformer_layers_per_block", {1, Json::array({1, 1}), 1, 1}}},
       "so 'reverse_transformer_layers_per_block' is needed"},
      {{{"transformer_layers_per_block", {1, Json::array({1, 1, 1}), 1, 1}},
        {"reverse_transformer_layers_per_block", {1, 1, 1, 1}}},
       "'transformer_layers_per_block' has 3 values for a block of 2 layers"},
      {{{"transformer_layers_per_block", "two"}},
       "'transformer_layers_per_block' must hold whole numbers"},
      {{{"transformer_layers_per_block", 1000}},
       "'transformer_layers_per_block' = 1000 is out of range"},
      {{{"in_channels", 0}}, "'in_channels' = 0 is out of range"},
      {{{"conv_in_kernel", 99}}, "'conv_in_kernel' = 99 is out of range"},
      {{{"downsample_padding", 2}}, "'downsample_padding' = 2 is out of range"},
      {{{"mid_block_scale_factor", 0}}, "'mid_block_scale_factor' must not be 0"},
      {{{"sample_size", {64, 96}}}, "'sample_size' must be one number, or the same number twice"},
      {{{"time_embedding_dim", 0}}, "'time_embedding_dim' = 0 is out of range"},
      {{{"freq_shift", 160}}, "'freq_shift' = 160 leaves no frequencies"},
      {{{"addition_embed_type", "text_time"}}, "needs 'addition_time_embed_dim'"},
      {{{"flip_sin_to_cos", "yes"}}, "'flip_sin_to_cos' must be true or false"},
  };
  for (const auto& [change, wanted_part] : refusals) {
    const std::string message = error_of(with(sd15(), change));
    EXPECT_NE(message.find(wanted_part), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace molar
