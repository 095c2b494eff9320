#include "molar/pipeline/gate_recorder.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>

#include "molar/io/json_config.h"

namespace molar {
namespace {

UNet2DConditionConfig tiny_config() {
  return UNet2DConditionConfig::from_json(
      read_json_file(std::filesystem::path(MOLAR_TEST_DATA_DIR) /
                     "models/sd21-tiny/unet/config.json"),
      "unet/config.json");
}

TEST(GateRecorder, AveragesLayersOfOneSizeAndThePromptsRowAlone) {
  GateRecorder recorder(tiny_config(), {4, 6});
  const auto values = [](int64_t positions, double prompt) {
    Tensor local = at::full({2, positions, 2}, 0.9);
    local[1].fill_(prompt);
    local[1][0][0] = 0.0;
    return GateValues{.local = local,
                      .global = torch::tensor({0.9, 0.9, prompt, 0.5}).view({2, 2})};
  };
  recorder.observe("down_blocks.0.attentions.0.proj_in", values(24, 0.2));
  recorder.observe("up_blocks.1.attentions.0.proj_in", values(24, 0.4));
  recorder.observe("mid_block.attentions.0.proj_in", values(6, 0.6));
  recorder.observe("mid_block.attentions.0.transformer_blocks.0.attn2.to_k", values(77, 0.8));
  const GateStep step = recorder.take();
  ASSERT_EQ(step.levels.size(), 2U);
  ASSERT_EQ(step.levels[0].sizes(), at::IntArrayRef({2, 4, 6}));
  EXPECT_NEAR(step.levels[0][1][3][5].item<double>(), 0.3, 1e-6);
  EXPECT_NEAR(step.levels[0][0][0][0].item<double>(), 0.0, 1e-6);
  EXPECT_NEAR(step.levels[1][1][0][0].item<double>(), 0.6, 1e-6);
  ASSERT_EQ(step.global.size(), 2U);
  EXPECT_NEAR(step.global[0], 0.5, 1e-6) << "text layers count here";
  EXPECT_NEAR(step.global[1], 0.5, 1e-6);
  EXPECT_TRUE(recorder.take().levels.empty()) << "it begins anew";
}

}  // namespace
}  // namespace molar
