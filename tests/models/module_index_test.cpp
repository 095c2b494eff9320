#include "molar/models/module_index.h"

#include <gtest/gtest.h>

#include "molar/models/attention.h"
#include "molar/models/resnet.h"

namespace molar {
namespace {

TEST(AdaptableLayers, AreTheLinearAndConvolutionLayersByName) {
  const Attention attention(
      AttentionOptions{.query_dim = 4, .context_dim = 6, .heads = 1, .dim_head = 4});
  const LayerIndex layers = adaptable_layers(*attention);
  ASSERT_EQ(layers.size(), 4u);
  EXPECT_EQ(layers.at("to_k")->weight().sizes(), (std::vector<int64_t>{4, 6}));
  EXPECT_EQ(layers.at("to_out.0")->weight().sizes(), (std::vector<int64_t>{4, 4}));

  const ResnetBlock2D resnet(
      ResnetBlock2DOptions{.in_channels = 4, .out_channels = 8, .groups = 2});
  const LayerIndex convolutions = adaptable_layers(*resnet);
  EXPECT_EQ(convolutions.size(), 3u) << "norms are not adaptable";
  EXPECT_EQ(convolutions.at("conv_shortcut")->weight().sizes(), (std::vector<int64_t>{8, 4, 1, 1}));
}

TEST(AdaptableLayers, WriteThroughToTheModule) {
  const Attention attention(
      AttentionOptions{.query_dim = 2, .context_dim = 2, .heads = 1, .dim_head = 2});
  const Tensor weight = at::ones({2, 2});
  adaptable_layers(*attention).at("to_q")->set_weight(weight);
  EXPECT_TRUE(at::equal(attention->named_parameters()["to_q.weight"], weight));
}

TEST(FlattenedNames, GoBackToDottedNames) {
  const Attention attention(
      AttentionOptions{.query_dim = 4, .context_dim = 6, .heads = 1, .dim_head = 4});
  const auto names = flattened_names(adaptable_layers(*attention));
  EXPECT_EQ(names.at("to_out_0"), "to_out.0");
  EXPECT_EQ(names.at("to_q"), "to_q");
}

}  // namespace
}  // namespace molar
