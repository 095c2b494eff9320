#include "molar/adapters/lora_writer.h"

#include <gtest/gtest.h>

#include "lora_fixtures.h"
#include "molar/adapters/lora_io.h"

namespace molar {
namespace {

using namespace test;

/// Random factors of rank 2 for every layer of `model`.
LoraWeights random_lora(const FakeModel& model, double scale) {
  LoraWeights lora;
  uint64_t seed = 1;
  for (const auto& [name, weight] : model.originals()) {
    std::vector<int64_t> down = weight.sizes().vec(), up = {weight.size(0), 2};
    down[0] = 2;
    up.resize(down.size(), 1);
    lora.layers[name] = {LowRankFactors{noise(down, seed), noise(up, seed + 1), {}}, scale,
                         weight.sizes().vec()};
    seed += 2;
  }
  return lora;
}

LoraWeights written_and_read(const LoraWeights& lora, const FakeModel& model, LoraFormat format) {
  const TempFolder folder;
  const LoraFileContent content =
      spell_lora(lora, model.layers.family, format, {{"ss_output_name", "dog"}});
  LoraWeights read = load_lora(write_safetensors(folder / "x.safetensors", OnExist::kError,
                                                 content.tensors, content.metadata),
                               model.layers);
  EXPECT_EQ(read.metadata.at("ss_output_name"), "dog");
  return read;
}

void expect_same(const LoraWeights& read, const LoraWeights& written) {
  ASSERT_EQ(read.layers.size(), written.layers.size());
  for (const auto& [name, layer] : written.layers)
    EXPECT_TRUE(is_close(read.layers.at(name).delta(), layer.delta())) << name.module;
}

TEST(LoraWriter, WhatIsWrittenReadsBackInEveryFormatAndFamily) {
  for (const char* name : {"sd15-tiny", "sd21-tiny", "sdxl-tiny"})
    for (const LoraFormat format : {LoraFormat::kKohya, LoraFormat::kDiffusers})
      for (const double scale : {1.0, 0.25}) {
        const FakeModel model = tiny_model(name);
        const LoraWeights lora = random_lora(model, scale);
        const LoraWeights read = written_and_read(lora, model, format);
        expect_same(read, lora);
        EXPECT_TRUE(read.key_family.starts_with(lora_format_name(format))) << read.key_family;
      }
}

TEST(LoraWriter, SpellsKohyasKeys) {
  const FakeModel model = small_model();
  const auto content =
      spell_lora(random_lora(model, 0.5), ModelFamily::kSd1, LoraFormat::kKohya, {});
  EXPECT_EQ(content.tensors.at(kToQKey + ".lora_down.weight").sizes(),
            (std::vector<int64_t>{2, 8}));
  EXPECT_EQ(content.tensors.at(kToQKey + ".alpha").item<float>(), 1.0f);  // scale * rank
  EXPECT_TRUE(
      content.tensors.contains("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"));
  const auto xl = spell_lora(random_lora(model, 0.5), ModelFamily::kSdxl, LoraFormat::kKohya, {});
  EXPECT_TRUE(xl.tensors.contains("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"));
}

TEST(LoraWriter, DiffusersFilesSayTheirAlphaAsDiffusersDoes) {
  const FakeModel model = small_model();
  const auto content =
      spell_lora(random_lora(model, 0.5), ModelFamily::kSd1, LoraFormat::kDiffusers, {});
  const Json config = Json::parse(content.metadata.at("lora_adapter_metadata"));
  EXPECT_EQ(config.at("unet.r"), 2);
  EXPECT_EQ(config.at("unet.lora_alpha"), 1.0);
  EXPECT_EQ(config.at("text_encoder.target_modules"), Json::array({"fc1"}));
  EXPECT_TRUE(content.tensors.contains("unet.mid_block.resnets.0.conv1.lora_A.weight"));
}

TEST(LoraWriter, ScalesThatDifferGoIntoTheFactorsOfADiffusersFile) {
  const FakeModel model = small_model();
  LoraWeights lora = random_lora(model, 0.5);
  lora.layers.at(kToK).scale = 2.0;
  expect_same(written_and_read(lora, model, LoraFormat::kDiffusers), lora);
  expect_same(written_and_read(lora, model, LoraFormat::kKohya), lora);
}

TEST(LoraWriter, RefusesAnUnknownFormatByName) {
  EXPECT_EQ(parse_lora_format("kohya"), LoraFormat::kKohya);
  EXPECT_EQ(parse_lora_format("diffusers"), LoraFormat::kDiffusers);
  expect_error<ConfigError>([] { parse_lora_format("comfy"); }, {"--format 'comfy'", "kohya"});
}

}  // namespace
}  // namespace molar
