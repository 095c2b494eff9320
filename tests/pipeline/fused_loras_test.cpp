#include "molar/pipeline/fused_loras.h"

#include "molar/adapters/low_rank.h"
#include "pipeline_goldens.h"

namespace molar {
namespace {

constexpr Tolerance kRounding{.atol = 1e-5, .rtol = 1e-5};
const LayerName kToQ{"unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"};
const LayerName kToK{"unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_k"};

/// A change of `layer` by `value` in every entry.
LoraLayer constant_change(const Tensor& weight, double value) {
  const int64_t out = weight.size(0), in = weight.size(1);
  return plain_layer({.down = torch::full({1, in}, value), .up = torch::ones({out, 1})}, {out, in});
}

class FusedLorasTest : public testing::Test {
 protected:
  FusedLorasTest() : model_(test::goldens() / "models/sd15-tiny") {
    for (const LayerName& name : {kToQ, kToK}) originals_[name] = weight(name).clone();
  }

  Tensor weight(const LayerName& name) const {
    return model_.layers().components.at("unet").at(name.module)->weight();
  }
  void expect_change(const LayerName& name, double value) const {
    EXPECT_TRUE(is_close(weight(name), originals_.at(name) + value, kRounding)) << name.module;
  }
  /// Two files: the first has `switches`, the second adds 0.5 to kToQ.
  FusedLoras fuse(std::map<LayerName, LayerSwitch> switches) const {
    StackedLora merged, other;
    merged.weights.layers[kToQ] = constant_change(weight(kToQ), 1);
    merged.weights.layers[kToK] = constant_change(weight(kToK), 2);
    other.weights.layers[kToQ] = constant_change(weight(kToQ), 1);
    other.strength = 0.5;
    const ModelLayers all = model_.layers();
    return {ModelLayers{all.family, {{"unet", all.components.at("unet")}}},
            {},
            {merged, other},
            std::move(switches)};
  }

  const at::NoGradGuard no_grad_;
  test::LoadedModel model_;
  std::map<LayerName, Tensor> originals_;
};

TEST_F(FusedLorasTest, LayersSwitchAtTheirMomentAndBackForTheNextPicture) {
  FusedLoras fused = fuse({{kToQ, {0.5, constant_change(weight(kToQ), 4)}},
                           {kToK, {0.75, constant_change(weight(kToK), 8)}}});
  for (int picture = 0; picture < 2; ++picture) {
    fused.reach(0);
    expect_change(kToQ, 1.5);
    expect_change(kToK, 2);
    fused.reach(0.5);
    expect_change(kToQ, 4.5);
    expect_change(kToK, 2);
    fused.reach(0.9);
    expect_change(kToQ, 4.5);
    expect_change(kToK, 8);
  }
}

TEST_F(FusedLorasTest, WithoutSwitchesNothingMoves) {
  FusedLoras fused = fuse({});
  const Tensor before = weight(kToQ);
  fused.reach(0.9);
  EXPECT_TRUE(weight(kToQ).is_same(before) || at::equal(weight(kToQ), before));
  expect_change(kToK, 2);
  EXPECT_EQ(fused.num_changed_layers(), 2);
}

}  // namespace
}  // namespace molar
