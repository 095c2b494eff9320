#include "molar/adapters/block_strengths.h"

#include "lora_fixtures.h"
#include "molar/adapters/layer_skeleton.h"

namespace molar {
namespace {

using test::expect_error;

double strength_of(const std::map<LayerName, double>& strengths, const std::string& module,
                   const std::string& component = "unet") {
  const auto found = strengths.find({component, module});
  return found == strengths.end() ? 1 : found->second;
}

TEST(BlockStrengths, ReadsNamesAndNumbers) {
  EXPECT_EQ(parse_block_strengths("MID=0.5,OUT01=-2"),
            (BlockStrengths{{"MID", 0.5}, {"OUT01", -2}}));
  EXPECT_EQ(parse_block_strengths("1,0,.5"), (BlockStrengths{{"", 1}, {"", 0}, {"", 0.5}}));
  for (const std::string text : {"MID=0.5,OUT01=-2", "1,0,0.5"})
    EXPECT_EQ(block_strengths_text(parse_block_strengths(text)), text);
  for (const char* text : {"", "MID", "MID=", "=1", "MID=x", "MID=1,", "MID=inf", "1,,0"})
    expect_error<ConfigError>([&] { parse_block_strengths(text); }, {"wanted BLOCK=NUMBER"});
  expect_error<ConfigError>([] { parse_block_strengths("MID=1,0"); },
                            {"MID=1,0", "a name for each"});
}

// Where the blocks of the original checkpoints lie among diffusers' names, as "LoRA block weight"
// tools number them.
TEST(BlockStrengths, NamesStandForTheBlocksOfTheOriginalCheckpoints) {
  const LayerSkeleton sd1(ModelFamily::kSd1), sdxl(ModelFamily::kSdxl);
  struct Case {
    const LayerSkeleton& model;
    const char *block, *inside, *outside;
  };
  const char* const q = ".transformer_blocks.0.attn1.to_q";
  const std::string in_sd1 = std::string("down_blocks.1.attentions.0") + q;
  const std::string not_sd1 = std::string("down_blocks.1.attentions.1") + q;
  const std::string in_xl = std::string("up_blocks.0.attentions.1") + q;
  const std::string not_xl = std::string("up_blocks.0.attentions.0") + q;
  const Case cases[] = {
      {sd1, "IN00", "conv_in", "conv_out"},
      {sd1, "IN04", in_sd1.c_str(), not_sd1.c_str()},
      {sd1, "IN03", "down_blocks.0.downsamplers.0.conv", "down_blocks.1.resnets.0.conv1"},
      {sd1, "MID", "mid_block.resnets.1.conv2", "up_blocks.0.resnets.0.conv1"},
      {sd1, "OUT02", "up_blocks.0.upsamplers.0.conv", "up_blocks.1.resnets.0.conv1"},
      {sdxl, "OUT01", in_xl.c_str(), not_xl.c_str()},
      {sdxl, "up_blocks.0.attentions.1", in_xl.c_str(), not_xl.c_str()},
      {sdxl, "OUT", in_xl.c_str(), "mid_block.resnets.0.conv1"},
  };
  for (const auto& [model, block, inside, outside] : cases) {
    const auto strengths = layer_strengths({{block, 0.25}}, model.layers());
    EXPECT_EQ(strength_of(strengths, inside), 0.25) << block;
    EXPECT_EQ(strength_of(strengths, outside), 1) << block;
  }
  const auto text = layer_strengths({{"BASE", 0.5}}, sdxl.layers());
  for (const char* encoder : {"text_encoder", "text_encoder_2"})
    EXPECT_EQ(strength_of(text, "text_model.encoder.layers.0.mlp.fc1", encoder), 0.5);
  EXPECT_EQ(strength_of(text, "conv_in"), 1);
}

TEST(BlockStrengths, LaterEntriesWin) {
  const LayerSkeleton model(ModelFamily::kSd1);
  const auto strengths = layer_strengths(parse_block_strengths("OUT=0,OUT01=2"), model.layers());
  EXPECT_EQ(strength_of(strengths, "up_blocks.0.resnets.1.conv1"), 2);
  EXPECT_EQ(strength_of(strengths, "up_blocks.0.resnets.0.conv1"), 0);
}

TEST(BlockStrengths, NumbersAloneStandForAllBlocksOrThoseWithAttention) {
  const auto count_up = [](int64_t count) {
    BlockStrengths strengths(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i)
      strengths[static_cast<size_t>(i)].strength = static_cast<double>(i);
    return strengths;
  };
  const LayerSkeleton sd1(ModelFamily::kSd1), sdxl(ModelFamily::kSdxl);
  for (const auto& [model, count, middle] :
       {std::tuple<const LayerSkeleton*, int64_t, double>{&sd1, 26, 13},
        {&sd1, 17, 7},
        {&sdxl, 20, 10},
        {&sdxl, 12, 5}}) {
    const auto strengths = layer_strengths(count_up(count), model->layers());
    EXPECT_EQ(strength_of(strengths, "mid_block.attentions.0.proj_in"), middle) << count;
    EXPECT_EQ(strength_of(strengths, "text_model.encoder.layers.0.mlp.fc1", "text_encoder"), 0);
  }
  expect_error<ConfigError>([&] { layer_strengths(count_up(16), sd1.layers()); },
                            {"16 strengths", "26 for BASE, IN00", "17 for BASE, IN01, IN02, IN04"});
}

TEST(BlockStrengths, RefusesABlockThatTheModelLacks) {
  const LayerSkeleton sdxl(ModelFamily::kSdxl);
  for (const char* block : {"IN09", "OUT09", "in04", "M", "up_blocks.7", "mid_block.att"})
    expect_error<ConfigError>([&] { layer_strengths({{block, 1}}, sdxl.layers()); },
                              {block, "IN08", "OUT08", "MID"});
}

}  // namespace
}  // namespace molar
