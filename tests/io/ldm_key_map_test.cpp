#include "molar/io/ldm_key_map.h"

#include <gtest/gtest.h>

namespace molar {
namespace {

using Pair = std::pair<const char*, const char*>;

TEST(LdmKeyMap, UNetNamesOfTwoLayersPerBlock) {
  constexpr Pair kPairs[] = {
      {"time_embed.0.weight", "time_embedding.linear_1.weight"},
      {"time_embed.2.bias", "time_embedding.linear_2.bias"},
      {"label_emb.0.0.weight", "add_embedding.linear_1.weight"},
      {"label_emb.0.2.bias", "add_embedding.linear_2.bias"},
      {"input_blocks.0.0.weight", "conv_in.weight"},
      {"out.0.bias", "conv_norm_out.bias"},
      {"out.2.weight", "conv_out.weight"},
      {"input_blocks.1.0.in_layers.0.weight", "down_blocks.0.resnets.0.norm1.weight"},
      {"input_blocks.2.0.in_layers.2.bias", "down_blocks.0.resnets.1.conv1.bias"},
      {"input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"},
      {"input_blocks.4.0.skip_connection.bias", "down_blocks.1.resnets.0.conv_shortcut.bias"},
      {"input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight",
       "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"},
      {"input_blocks.11.0.emb_layers.1.weight", "down_blocks.3.resnets.1.time_emb_proj.weight"},
      {"middle_block.0.out_layers.0.weight", "mid_block.resnets.0.norm2.weight"},
      {"middle_block.1.proj_in.weight", "mid_block.attentions.0.proj_in.weight"},
      {"middle_block.2.out_layers.3.weight", "mid_block.resnets.1.conv2.weight"},
      {"output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"},
      {"output_blocks.2.2.conv.bias", "up_blocks.0.upsamplers.0.conv.bias"},
      {"output_blocks.5.2.conv.weight", "up_blocks.1.upsamplers.0.conv.weight"},
      {"output_blocks.5.1.norm.weight", "up_blocks.1.attentions.2.norm.weight"},
      {"output_blocks.11.0.in_layers.2.weight", "up_blocks.3.resnets.2.conv1.weight"},
      {"output_blocks.11.1.proj_out.bias", "up_blocks.3.attentions.2.proj_out.bias"},
  };
  for (const auto& [ldm, diffusers] : kPairs) EXPECT_EQ(unet_name_from_ldm(ldm, 2), diffusers);
}

TEST(LdmKeyMap, UNetNamesFollowTheNumberOfLayers) {
  EXPECT_EQ(unet_name_from_ldm("input_blocks.2.0.op.weight", 1),
            "down_blocks.0.downsamplers.0.conv.weight");
  EXPECT_EQ(unet_name_from_ldm("input_blocks.3.1.norm.bias", 1),
            "down_blocks.1.attentions.0.norm.bias");
  EXPECT_EQ(unet_name_from_ldm("output_blocks.1.1.conv.weight", 1),
            "up_blocks.0.upsamplers.0.conv.weight");
  EXPECT_EQ(unet_name_from_ldm("output_blocks.3.0.out_layers.3.bias", 1),
            "up_blocks.1.resnets.1.conv2.bias");
}

TEST(LdmKeyMap, UNetModuleNamesWorkToo) {
  EXPECT_EQ(unet_name_from_ldm("input_blocks.3.0.op", 2), "down_blocks.0.downsamplers.0.conv");
  EXPECT_EQ(unet_name_from_ldm("input_blocks.4.1", 2), "down_blocks.1.attentions.0");
  EXPECT_EQ(unet_name_from_ldm("output_blocks.2.1", 2), "up_blocks.0.attentions.2");
  EXPECT_EQ(unet_name_from_ldm("time_embed.0", 2), "time_embedding.linear_1");
  EXPECT_EQ(unet_name_from_ldm("input_blocks.4.0.in_layers.2", 2), "down_blocks.1.resnets.0.conv1");
}

TEST(LdmKeyMap, UnknownUNetNamesAreNotGuessed) {
  for (const char* const name :
       {"", "input_blocks", "input_blocks.1", "input_blocks.x.0.weight", "input_blocks.-1.0.op",
        "input_blocks.1.2.norm.weight", "input_blocks.1.0.norm1.weight", "input_blocks.3.1.op.bias",
        "input_blocks.3.0.in_layers.0.bias", "input_blocks.4.1.to_q.weight", "middle_block.3.norm",
        "output_blocks.1.2.conv.weight", "output_blocks.1.1.conv.weight", "out.1.weight", "outer",
        "time_embed.1.weight", "input_blocks.4.10.norm.weight", "conv_in.weight",
        "input_blocks.99999999999999999999.0.op"})
    EXPECT_EQ(unet_name_from_ldm(name, 2), std::nullopt) << name;
}

TEST(LdmKeyMap, VaeNamesCountDecoderLevelsFromTheOtherEnd) {
  constexpr Pair kPairs[] = {
      {"encoder.conv_in.weight", "encoder.conv_in.weight"},
      {"encoder.norm_out.bias", "encoder.conv_norm_out.bias"},
      {"decoder.conv_out.weight", "decoder.conv_out.weight"},
      {"quant_conv.weight", "quant_conv.weight"},
      {"post_quant_conv.bias", "post_quant_conv.bias"},
      {"encoder.down.1.block.0.nin_shortcut.weight",
       "encoder.down_blocks.1.resnets.0.conv_shortcut.weight"},
      {"encoder.down.2.downsample.conv.bias", "encoder.down_blocks.2.downsamplers.0.conv.bias"},
      {"encoder.mid.block_1.norm1.weight", "encoder.mid_block.resnets.0.norm1.weight"},
      {"encoder.mid.block_2.conv2.bias", "encoder.mid_block.resnets.1.conv2.bias"},
      {"decoder.mid.attn_1.norm.weight", "decoder.mid_block.attentions.0.group_norm.weight"},
      {"decoder.mid.attn_1.q.weight", "decoder.mid_block.attentions.0.to_q.weight"},
      {"decoder.mid.attn_1.proj_out.bias", "decoder.mid_block.attentions.0.to_out.0.bias"},
      {"decoder.up.3.block.2.conv1.weight", "decoder.up_blocks.0.resnets.2.conv1.weight"},
      {"decoder.up.1.upsample.conv.weight", "decoder.up_blocks.2.upsamplers.0.conv.weight"},
      {"decoder.up.0.block.0.nin_shortcut.bias",
       "decoder.up_blocks.3.resnets.0.conv_shortcut.bias"},
  };
  for (const auto& [ldm, diffusers] : kPairs) EXPECT_EQ(vae_name_from_ldm(ldm, 4), diffusers);
}

TEST(LdmKeyMap, UnknownVaeNamesAreNotGuessed) {
  for (const char* const name :
       {"", "loss.logvar", "encoder.down.4.block.0.conv1.weight", "decoder.up.4.upsample.conv.bias",
        "encoder.up.0.block.0.conv1.weight", "decoder.mid.block_3.norm1.weight",
        "encoder.down.0.upsample.conv.bias", "decoder.down_blocks.0.resnets.0.norm1.bias",
        "encoder.down.0.attn.0.q.weight"})
    EXPECT_EQ(vae_name_from_ldm(name, 4), std::nullopt) << name;
}

TEST(LdmKeyMap, OpenClipNames) {
  constexpr Pair kPairs[] = {
      {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
      {"token_embedding.weight", "text_model.embeddings.token_embedding.weight"},
      {"ln_final.bias", "text_model.final_layer_norm.bias"},
      {"transformer.resblocks.0.ln_1.weight", "text_model.encoder.layers.0.layer_norm1.weight"},
      {"transformer.resblocks.31.ln_2.bias", "text_model.encoder.layers.31.layer_norm2.bias"},
      {"transformer.resblocks.7.mlp.c_fc.weight", "text_model.encoder.layers.7.mlp.fc1.weight"},
      {"transformer.resblocks.7.mlp.c_proj.bias", "text_model.encoder.layers.7.mlp.fc2.bias"},
      {"transformer.resblocks.7.attn.out_proj.weight",
       "text_model.encoder.layers.7.self_attn.out_proj.weight"},
  };
  for (const auto& [open_clip, transformers] : kPairs) {
    const auto found = text_name_from_open_clip(open_clip);
    ASSERT_TRUE(found) << open_clip;
    EXPECT_EQ(found->name, transformers);
    EXPECT_EQ(found->use, TensorUse::kAsIs) << open_clip;
  }
}

TEST(LdmKeyMap, OpenClipTensorsThatChangeTheirForm) {
  const auto projection = text_name_from_open_clip("text_projection");
  ASSERT_TRUE(projection);
  EXPECT_EQ(projection->name, "text_projection.weight");
  EXPECT_EQ(projection->use, TensorUse::kTransposed);
  const auto fused = text_name_from_open_clip("transformer.resblocks.2.attn.in_proj_bias");
  ASSERT_TRUE(fused);
  EXPECT_EQ(fused->name, "text_model.encoder.layers.2.self_attn.{}_proj.bias");
  EXPECT_EQ(fused->use, TensorUse::kSplitQkv);
}

TEST(LdmKeyMap, UnknownOpenClipNamesAreNotGuessed) {
  for (const char* const name : {"", "visual.proj", "transformer.resblocks.x.ln_1.weight",
                                 "transformer.resblocks.1", "transformer.resblocks.1.ln_3.weight",
                                 "transformer.text_model.final_layer_norm.bias", "logit_scale"})
    EXPECT_EQ(text_name_from_open_clip(name).has_value(),
              std::string_view(name) == "transformer.resblocks.1")
        << name;
}

}  // namespace
}  // namespace molar
