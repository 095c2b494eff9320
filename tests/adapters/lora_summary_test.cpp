#include "molar/adapters/lora_summary.h"

#include <limits>

#include "lora_fixtures.h"

namespace molar {
namespace {

using test::golden;
using test::kToQKey;
using test::noise;
using test::small_lora;
using test::TempFolder;
using test::write_tensors;

LoraSummary describe(const StateDict& tensors,
                     const std::map<std::string, std::string>& metadata = {}) {
  const TempFolder folder;
  return describe_lora(write_tensors(folder, "dog.safetensors", tensors, metadata));
}

TEST(DescribeLora, CountsLayersRanksAndAlphasOfEachComponent) {
  const LoraSummary summary = describe_lora(golden("lora/sdxl-kohya-ldm/lora.safetensors"));
  EXPECT_EQ(summary.kind, "LoCon");
  EXPECT_EQ(summary.key_family, "kohya (LDM block names) + kohya");
  EXPECT_EQ(summary.dtype, "float32");
  EXPECT_EQ(summary.base_guess, "SDXL");
  EXPECT_TRUE(summary.unsupported.empty());
  ASSERT_EQ(summary.components.size(), 3U);
  const LoraComponentSummary& unet = summary.components.at("unet");
  EXPECT_EQ(unet.min_rank, 2);
  EXPECT_EQ(unet.max_rank, 3);
  EXPECT_EQ(unet.min_alpha, 1.0);
  EXPECT_EQ(unet.max_alpha, 4.0);
  int64_t num_layers = 0;
  for (const auto& [name, part] : summary.components) num_layers += part.num_layers;
  EXPECT_EQ(num_layers, 198);
  EXPECT_EQ(summary.num_keys, 3 * 198);
}

TEST(DescribeLora, ReadsThePeftConfigForAlphas) {
  const LoraSummary summary = describe_lora(golden("lora/sd15-peft"));
  EXPECT_EQ(summary.kind, "LoCon");
  EXPECT_EQ(summary.key_family, "PEFT");
  const LoraComponentSummary& unet = summary.components.at("unet");
  EXPECT_EQ(unet.min_alpha, 5.0);
  EXPECT_EQ(unet.max_alpha, 9.0);
  EXPECT_EQ(unet.min_rank, 2);
  EXPECT_EQ(unet.max_rank, 4);
}

TEST(DescribeLora, AlphaIsTheRankWhereTheFileHasNone) {
  const LoraSummary summary = describe(small_lora());
  EXPECT_EQ(summary.kind, "LoRA");
  EXPECT_EQ(summary.components.at("unet").max_alpha, 2.0);
  EXPECT_EQ(summary.num_parameters, 2 * 8 * 2);
}

TEST(DescribeLora, NamesTheKind) {
  EXPECT_EQ(describe_lora(golden("lora/sd15-peft-loha")).kind, "LoHa");
  EXPECT_EQ(describe_lora(golden("lora/sd15-peft-lokr")).kind, "LoKr");
  StateDict tensors = small_lora();
  tensors[kToQKey + ".dora_scale"] = noise({8, 1}, 1);
  const LoraSummary dora = describe(tensors);
  EXPECT_EQ(dora.kind, "DoRA");
  EXPECT_NE(dora.unsupported.find("dora_scale"), std::string::npos);
  EXPECT_EQ(dora.to_json().at("supported"), false);
}

TEST(DescribeLora, TellsTextEncodersApartWithoutAModel) {
  const std::pair<std::string, std::string> keys[] = {
      {"lora_te_text_model_encoder_layers_0_mlp_fc1", "text_encoder"},
      {"lora_te2_text_model_encoder_layers_0_mlp_fc1", "text_encoder_2"},
      {"base_model.model.text_model.encoder.layers.0.self_attn.q_proj", "text_encoder"},
      {"base_model.model.mid_block.attentions.0.proj_in", "unet"},
      {"text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc1", "text_encoder_2"},
  };
  for (const auto& [module, component] : keys) {
    const LoraSummary summary = describe({{module + ".lora_A.weight", noise({2, 8}, 1)},
                                          {module + ".lora_B.weight", noise({8, 2}, 1)}});
    ASSERT_EQ(summary.components.size(), 1U);
    EXPECT_EQ(summary.components.begin()->first, component) << module;
  }
}

TEST(DescribeLora, DescribesLorasForModelsThatMolarDoesNotHave) {
  const LoraSummary summary = describe(
      {{"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", noise({2, 8}, 1)},
       {"transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight", noise({8, 2}, 1)}});
  EXPECT_EQ(summary.base_guess, "Flux");
}

TEST(DescribeLora, RefusesWhatIsNoLora) {
  test::expect_error<FileError>(
      [] { describe({{"model.diffusion_model.x.weight", noise({2, 2}, 1)}}); },
      {"model checkpoint"});
  test::expect_error<FileError>([] { describe_lora("nowhere.safetensors"); },
                                {"nowhere.safetensors", "does not exist"});
}

TEST(DescribeLora, ShowsWhatPeopleWroteIntoTheMetadata) {
  const LoraSummary summary = describe(
      small_lora(),
      {{"ss_output_name", "dog_v3"},
       {"modelspec.title", "Dog"},
       {"modelspec.trigger_phrase", "a sks dog"},
       {"modelspec.license", "CC0"},
       {"modelspec.author", "None"},
       {"ss_sd_model_name", "v1-5.safetensors"},
       {"ss_training_comment", "first try"},
       {"ss_tag_frequency",
        R"({"10_sks dog": {"dog": 12, "grass": 3}, "reg": {"grass": 4, "bad": "x"}, "odd": 1})"}});
  const LoraDocumentation& words = summary.documentation;
  EXPECT_EQ(words.title, "Dog");
  EXPECT_EQ(words.trigger_words, "a sks dog");
  EXPECT_EQ(words.licence, "CC0");
  EXPECT_EQ(words.author, "");
  EXPECT_EQ(words.base_model, "v1-5.safetensors");
  EXPECT_EQ(words.description, "first try");
  EXPECT_EQ(words.top_tags,
            (std::vector<std::pair<std::string, int64_t>>{{"dog", 12}, {"grass", 7}}));
  const std::string text = summary.to_text();
  for (const char* line :
       {"kind: LoRA\n", "keys: 2 (kohya)\n", "unet: 1 layers, rank 2, alpha 2\n",
        "trigger words: a sks dog\n", "licence: CC0\n", "tags: dog (12), grass (7)\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  EXPECT_EQ(text.find("author"), std::string::npos);
  const Json json = summary.to_json();
  EXPECT_EQ(json.at("trigger_words"), "a sks dog");
  EXPECT_EQ(json.at("components").at("unet").at("num_layers"), 1);
  EXPECT_EQ(json.at("top_tags").at(0).at("tag"), "dog");
  EXPECT_EQ(json.at("metadata").at("ss_output_name"), "dog_v3");
  EXPECT_FALSE(json.contains("author"));
}

TEST(ReadLoraDocumentation, IgnoresTagsThatAreNoTable) {
  for (const char* tags : {"not json", "[1]", "{\"a\": [1]}", ""})
    EXPECT_TRUE(read_lora_documentation({{"ss_tag_frequency", tags}}).top_tags.empty()) << tags;
}

TEST(ReadLoraDocumentation, TagCountsWithoutMeasureStayCounts) {
  const char* tags =
      R"({"a": {"most": 9223372036854775807, "more": 18446744073709551615, "less": -1},)"
      R"( "b": {"most": 9223372036854775807, "dog": 1, "less": -9223372036854775808}})";
  constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(read_lora_documentation({{"ss_tag_frequency", tags}}).top_tags,
            (std::vector<std::pair<std::string, int64_t>>{
                {"more", kHighest}, {"most", kHighest}, {"dog", 1}}));
}

TEST(IsLora, TellsByKeysAlone) {
  const TempFolder folder;
  const auto is = [&](const std::string& key) {
    return is_lora(
        SafetensorsFile::open(write_tensors(folder, "x.safetensors", {{key, noise({2, 2}, 1)}})));
  };
  EXPECT_TRUE(is("a.lora_down.weight"));
  EXPECT_TRUE(is("a.dora_scale"));
  EXPECT_FALSE(is("a.alpha"));
  EXPECT_FALSE(is("norm.scale"));
  EXPECT_FALSE(is("a.weight"));
}

}  // namespace
}  // namespace molar
