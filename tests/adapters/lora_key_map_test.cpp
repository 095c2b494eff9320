#include "molar/adapters/lora_key_map.h"

#include <fmt/format.h>

#include <set>

#include "lora_fixtures.h"
#include "molar/adapters/layer_skeleton.h"
#include "molar/io/ldm_key_map.h"

namespace molar {
namespace {

constexpr ModelFamily kFamilies[] = {ModelFamily::kSd1, ModelFamily::kSd2, ModelFamily::kSdxl};

std::string underscored(std::string text) {
  std::replace(text.begin(), text.end(), '.', '_');
  return text;
}

/// What `key` names in the model, as "component/module"; "" where nothing.
std::string found_by(const LoraModuleMap& modules, const std::string& key,
                     const std::string& hint = "") {
  const auto parsed = split_lora_key(key);
  if (!parsed) return "";
  const auto hit = modules.find(*parsed, hint);
  return hit ? hit->name.component + "/" + hit->name.module : "";
}

TEST(LoraKeyTables, NoSuffixHidesALaterOne) {
  const auto suffixes = lora_suffixes();
  for (const LoraSuffix& suffix : suffixes) {
    std::string key = "module" + std::string(suffix.text);
    if (const size_t star = key.find('*'); star != std::string::npos)
      key.replace(star, 1, "default_0");
    const auto parsed = split_lora_key(key);
    ASSERT_TRUE(parsed) << key;
    EXPECT_EQ(parsed->suffix, &suffix) << key << " was read as " << parsed->suffix->text;
    EXPECT_EQ(parsed->module, "module") << key;
  }
}

TEST(LoraKeyTables, NoPrefixHidesALaterOne) {
  const auto prefixes = lora_prefixes();
  for (size_t i = 0; i < prefixes.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      EXPECT_FALSE(prefixes[i].text.starts_with(prefixes[j].text))
          << prefixes[j].text << " hides " << prefixes[i].text;
}

TEST(LoraKeyTables, UnsupportedSuffixesSayWhatTheyAre) {
  for (const LoraSuffix& suffix : lora_suffixes())
    EXPECT_EQ(suffix.part == LoraPart::kUnsupported, !suffix.unsupported.empty()) << suffix.text;
}

TEST(SplitLoraKey, KnowsOnlyWholeSuffixes) {
  EXPECT_FALSE(split_lora_key("unet.conv_in.weight"));
  EXPECT_FALSE(split_lora_key("x.lora_down.weights"));
  EXPECT_FALSE(split_lora_key(".lora_down.weight"));
  EXPECT_FALSE(split_lora_key(""));
  EXPECT_FALSE(split_lora_key("x.lora_A..weight"));
  EXPECT_EQ(split_lora_key("a.b.lora_A.my-adapter.weight")->module, "a.b");
  EXPECT_EQ(split_lora_key("to_q_lora.down.weight")->module, "to_q");
}

TEST(FlattenModuleName, DropsTheAttentionProcessor) {
  EXPECT_EQ(flatten_module_name("a.0.attn1.processor.to_q"), "a_0_attn1_to_q");
  EXPECT_EQ(flatten_module_name("lora_unet_a"), "lora_unet_a");
}

TEST(LoraModuleMap, FullSizeModelsHaveTheLayersThatTheyAreKnownFor) {
  const std::map<ModelFamily, size_t> attention{
      {ModelFamily::kSd1, 16 * 8}, {ModelFamily::kSd2, 16 * 8}, {ModelFamily::kSdxl, 70 * 8}};
  for (const ModelFamily family : kFamilies) {
    const LayerSkeleton model(family);
    size_t count = 0;
    for (const auto& [module, layer] : model.layers().components.at("unet"))
      count += module.find(".attn") != std::string::npos;
    EXPECT_EQ(count, attention.at(family)) << family_name(family);
  }
}

TEST(LoraModuleMap, EverySpellingOfEveryLayerFindsThatLayerAndNoOther) {
  const std::map<std::string, std::vector<std::string>> prefixes{
      {"unet",
       {"lora_unet_", "lycoris_", "unet.", "unet.unet.", "unet.base_model.model.",
        "base_model.model.", "diffusion_model.", "model.diffusion_model.", ""}},
      {"text_encoder",
       {"lora_te_", "lora_te1_", "text_encoder.", "text_encoders.clip_l.transformer.",
        "text_encoders.clip_h.transformer.", "text_encoders.clip_l."}},
      {"text_encoder_2",
       {"lora_te2_", "text_encoder_2.", "text_encoders.clip_g.transformer.",
        "text_encoders.clip_g."}}};
  for (const ModelFamily family : kFamilies) {
    const LayerSkeleton model(family);
    const LoraModuleMap modules(model.layers());
    std::map<std::string, std::string> owner;  // key -> the layer it was made from
    for (const auto& [component, index] : model.layers().components)
      for (const auto& [module, layer] : index)
        for (const std::string& prefix : prefixes.at(component)) {
          std::vector<std::string> names{module};
          if (component == "unet")
            if (const auto ldm = ldm_module_name(module, index)) names.push_back(*ldm);
          if (module.starts_with("text_model.")) names.push_back(module.substr(11));
          for (const std::string& name : names) {
            const bool flat = prefix.ends_with('_');
            const std::string key =
                prefix + (flat ? underscored(name) : name) + ".lora_down.weight";
            const std::string layer_name = component + "/" + module;
            EXPECT_EQ(found_by(modules, key), layer_name) << family_name(family) << ": " << key;
            const auto [first, is_new] = owner.emplace(key, layer_name);
            EXPECT_TRUE(is_new || first->second == layer_name) << key << " names two layers";
          }
        }
    EXPECT_GT(owner.size(), 2000U);
  }
}

TEST(LoraModuleMap, EveryUNetLayerOfEveryFamilyHasAnOriginalName) {
  for (const ModelFamily family : kFamilies) {
    const LayerSkeleton model(family);
    const LayerIndex& unet = model.layers().components.at("unet");
    std::set<std::string> names;
    for (const auto& [module, layer] : unet) {
      const auto ldm = ldm_module_name(module, unet);
      ASSERT_TRUE(ldm) << module;
      EXPECT_TRUE(names.insert(*ldm).second) << *ldm << " is the name of two layers";
      // The checkpoint reader's map goes the other way and is written independently.
      EXPECT_EQ(unet_name_from_ldm(*ldm, 2), module) << *ldm;
    }
  }
}

TEST(LdmModuleName, AgreesWithTheNumberingThatKohyaCountsOut) {
  // Three blocks a level: two residual blocks and the sampler. Written out for SDXL's three levels.
  const LayerSkeleton model(ModelFamily::kSdxl);
  const LayerIndex& unet = model.layers().components.at("unet");
  std::map<std::string, std::string> wanted;
  for (int level = 0; level < 3; ++level) {
    for (int i = 0; i < 2; ++i) {
      wanted[fmt::format("down_blocks.{}.resnets.{}", level, i)] =
          fmt::format("input_blocks.{}.0", 3 * level + i + 1);
      if (level > 0)
        wanted[fmt::format("down_blocks.{}.attentions.{}", level, i)] =
            fmt::format("input_blocks.{}.1", 3 * level + i + 1);
    }
    for (int i = 0; i < 3; ++i) {
      wanted[fmt::format("up_blocks.{}.resnets.{}", level, i)] =
          fmt::format("output_blocks.{}.0", 3 * level + i);
      if (level < 2)
        wanted[fmt::format("up_blocks.{}.attentions.{}", level, i)] =
            fmt::format("output_blocks.{}.1", 3 * level + i);
    }
  }
  size_t checked = 0;
  for (const auto& [ours, theirs] : wanted) {
    const std::string inner = ours.find("resnets") != std::string::npos ? "conv2" : "proj_out";
    EXPECT_EQ(ldm_module_name(ours + "." + inner, unet),
              theirs + (inner == "conv2" ? ".out_layers.3" : ".proj_out"));
    ++checked;
  }
  EXPECT_EQ(checked, 6U + 4U + 9U + 6U);
}

TEST(LdmModuleName, KnowsWhatStandsOutsideTheNumberedBlocks) {
  const LayerSkeleton xl(ModelFamily::kSdxl), sd1(ModelFamily::kSd1);
  const LayerIndex& unet = xl.layers().components.at("unet");
  const std::map<std::string, std::string> wanted{
      {"conv_in", "input_blocks.0.0"},
      {"conv_out", "out.2"},
      {"time_embedding.linear_1", "time_embed.0"},
      {"time_embedding.linear_2", "time_embed.2"},
      {"add_embedding.linear_1", "label_emb.0.0"},
      {"add_embedding.linear_2", "label_emb.0.2"},
      {"mid_block.resnets.0.conv1", "middle_block.0.in_layers.2"},
      {"mid_block.attentions.0.transformer_blocks.9.attn1.to_q",
       "middle_block.1.transformer_blocks.9.attn1.to_q"},
      {"mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1"},
      {"down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"},
      {"down_blocks.1.downsamplers.0.conv", "input_blocks.6.0.op"},
      {"up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"},
      {"up_blocks.0.resnets.2.conv_shortcut", "output_blocks.2.0.skip_connection"},
      {"down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
       "input_blocks.4.1.transformer_blocks.0.attn1.to_q"}};
  for (const auto& [ours, theirs] : wanted) EXPECT_EQ(ldm_module_name(ours, unet), theirs);
  // Without attention the upsampler is the second part of its block, not the third.
  const LayerIndex& sd1_unet = sd1.layers().components.at("unet");
  EXPECT_EQ(ldm_module_name("up_blocks.0.upsamplers.0.conv", sd1_unet), "output_blocks.2.1.conv");
  EXPECT_EQ(ldm_module_name("up_blocks.1.upsamplers.0.conv", sd1_unet), "output_blocks.5.2.conv");
  EXPECT_EQ(ldm_module_name("encoder.layers.0", sd1_unet), std::nullopt);
  EXPECT_EQ(ldm_module_name("down_blocks.x.resnets.0.conv1", sd1_unet), std::nullopt);
}

TEST(LoraModuleMap, ReadsTheKeysThatToolsReallyWrite) {
  const LayerSkeleton model(ModelFamily::kSdxl);
  const LoraModuleMap modules(model.layers());
  const std::string to_q = "unet/down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
  const std::string to_out = "unet/down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0";
  const std::string q_proj = "text_encoder/text_model.encoder.layers.0.self_attn.q_proj";
  const std::pair<std::string, std::string> keys[] = {
      {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight", to_q},
      {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.alpha", to_q},
      {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight", to_q},
      {"lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lokr_w1", to_q},
      {"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
       to_q},
      {"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight",
       to_out},
      {"down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight",
       to_out},
      {"unet.unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora.up.weight",
       to_out},
      {"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", to_q},
      {"base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.default."
       "weight",
       to_q},
      {"diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.lora_up.weight", to_q},
      {"model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0.lora_B.weight",
       to_out},
      {"lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", q_proj},
      {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
       q_proj},
      {"text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight", q_proj},
      {"text_encoder.encoder.layers.0.self_attn.q_proj.lora_A.weight", q_proj},
      {"lora_te2_text_model_encoder_layers_31_mlp_fc1.hada_w1_a",
       "text_encoder_2/text_model.encoder.layers.31.mlp.fc1"},
      {"text_encoders.clip_g.transformer.text_model.encoder.layers.31.mlp.fc2.lora_down.weight",
       "text_encoder_2/text_model.encoder.layers.31.mlp.fc2"},
      {"text_encoder_2.text_projection.lora.down.weight", "text_encoder_2/text_projection"},
  };
  for (const auto& [key, layer] : keys) EXPECT_EQ(found_by(modules, key), layer) << key;
}

TEST(LoraModuleMap, FindsNothingForLayersOfOtherModels) {
  const LayerSkeleton model(ModelFamily::kSd1);
  const LoraModuleMap modules(model.layers());
  for (const std::string key :
       {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
        "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
        "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.lora_down.weight",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q_.lora_down.weight"})
    EXPECT_EQ(found_by(modules, key), "") << key;
}

TEST(LoraModuleMap, AHintSaysWhichComponentAPeftFileIsOf) {
  const LayerSkeleton model(ModelFamily::kSdxl);
  const LoraModuleMap modules(model.layers());
  const std::string key = "base_model.model.text_model.encoder.layers.3.mlp.fc1.lora_A.weight";
  EXPECT_EQ(found_by(modules, key), "text_encoder/text_model.encoder.layers.3.mlp.fc1");
  EXPECT_EQ(found_by(modules, key, "text_encoder_2"),
            "text_encoder_2/text_model.encoder.layers.3.mlp.fc1");
  EXPECT_EQ(found_by(modules, key, "unet"), "");
}

TEST(LoraModuleMap, NamesTheFamilyOfASpelling) {
  const LayerSkeleton model(ModelFamily::kSdxl);
  const LoraModuleMap modules(model.layers());
  const std::pair<std::string, std::string> keys[] = {
      {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight", "kohya (LDM block names)"},
      {"lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight", "kohya"},
      {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
       "diffusers (attention processors)"},
      {"unet.mid_block.attentions.0.proj_in.lora_A.weight", "diffusers (PEFT names)"},
      {"unet.mid_block.attentions.0.proj_in.lora.down.weight", "diffusers"},
      {"diffusion_model.middle_block.1.proj_in.lora_down.weight", "ComfyUI"},
  };
  for (const auto& [key, family] : keys)
    EXPECT_EQ(modules.find(*split_lora_key(key))->family, family) << key;
}

}  // namespace
}  // namespace molar
