#include "molar/adapters/mole/routed_experts.h"

#include <torch/torch.h>

#include "molar/adapters/lora_fuser.h"
#include "molar/io/checkpoint.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "mole_fixtures.h"
#include "support/literal_experts.h"

namespace molar {
namespace {

/// A tiny UNet, its committed set of experts, and inputs of one call.
struct TinyUNet {
  Checkpoint checkpoint;
  UNet2DConditionModel unet;
  ModelLayers layers;
  ExpertSet set;
  Tensor sample = test::noise({2, 4, 8, 6}, 1), timesteps = at::full({1}, 301.0);
  UNetConditioning conditioning;

  TinyUNet()
      : checkpoint(open_checkpoint(test::golden("models/sd15-tiny"), {})),
        unet(load_unet(checkpoint.component("unet"), {.device = at::kCPU, .dtype = at::kFloat})),
        layers{checkpoint.family, {{"unet", adaptable_layers(*unet)}}},
        set(load_expert_set(test::golden("mole/sets/sd15"), layers)) {
    conditioning.encoder_hidden_states = test::noise({2, 9, unet->config().cross_attention_dim}, 2);
  }
  const LayerIndex& index() const { return layers.components.at("unet"); }
  Tensor run() {
    const at::NoGradGuard no_grad;
    return unet->forward(sample, timesteps, conditioning);
  }
};

TEST(RoutedExperts, AWholeUNetIsTheLiteralOne) {
  TinyUNet model;
  const Tensor base = model.run();
  Tensor literal;
  {
    const test::LiteralExperts experts(model.index(), model.set);
    literal = model.run();
  }
  {
    const RoutedExperts experts(model.index(), model.set, {});
    EXPECT_EQ(experts.num_layers(), 48);  // four transformers of 12 layers
    const Tensor routed = model.run();
    EXPECT_TRUE(is_close(routed, literal, {.atol = 1e-4, .rtol = 1e-4}));
    EXPECT_FALSE(is_close(routed, base, {.atol = 0.05, .rtol = 0}));
  }
  EXPECT_TRUE(at::equal(model.run(), base)) << "detached";
}

TEST(RoutedExperts, WorkBesideLorasInTheWeights) {
  TinyUNet model;
  const LoraWeights lora = load_lora(test::golden("mole/loras/sd15-kohya-a.safetensors"),
                                     {model.layers.family, model.layers.components});
  LoraFuser fuser(model.layers, {});
  fuser.attach({{&lora, 0.7}});
  const Tensor fused = model.run();
  Tensor literal;
  {
    const test::LiteralExperts experts(model.index(), model.set);
    literal = model.run();
  }
  {
    const RoutedExperts experts(model.index(), model.set, {});
    EXPECT_TRUE(is_close(model.run(), literal, {.atol = 1e-4, .rtol = 1e-4}));
    fuser.detach();  // under the experts' feet
    fuser.attach({{&lora, 0.7}});
    EXPECT_TRUE(is_close(model.run(), literal, {.atol = 1e-4, .rtol = 1e-4}));
  }
  EXPECT_TRUE(at::equal(model.run(), fused));
}

TEST(RoutedExperts, ActAndStopAsTold) {
  TinyUNet model;
  const Tensor base = model.run();
  RoutedExperts experts(model.index(), model.set, {});
  const Tensor acting = model.run();
  experts.act(false);
  EXPECT_TRUE(at::equal(model.run(), base));
  experts.act(true);
  EXPECT_TRUE(at::equal(model.run(), acting));
}

TEST(RoutedExperts, StrengthsOfZeroAreTheBase) {
  TinyUNet model;
  const Tensor base = model.run();
  const RoutedExperts none(model.index(), model.set, {.strengths = {{"face", 0}, {"hand", 0}}});
  EXPECT_TRUE(is_close(model.run(), base, {.atol = 1e-4, .rtol = 1e-4}));
}

TEST(RoutedExperts, ObserversSeeTheGatesOfEveryLayer) {
  TinyUNet model;
  RoutedExperts experts(model.index(), model.set, {});
  std::map<std::string, GateValues> seen;
  experts.observe(
      [&](const std::string& module, const GateValues& values) { seen[module] = values; });
  model.run();
  EXPECT_EQ(static_cast<int64_t>(seen.size()), experts.num_layers());
  const GateValues& text = seen.at("mid_block.attentions.0.transformer_blocks.0.attn2.to_k");
  EXPECT_EQ(text.local.sizes(), at::IntArrayRef({2, 9, 2})) << "gates of text tokens";
  EXPECT_EQ(text.global.sizes(), at::IntArrayRef({2, 2}));
  EXPECT_EQ(seen.at("down_blocks.0.attentions.0.proj_in").local.sizes(),
            at::IntArrayRef({2, 48, 2}));
}

TEST(RoutedExperts, MasksOfZeroLeaveTheImageTokensAlone) {
  TinyUNet model;
  const Tensor base = model.run();
  RoutedExperts experts(model.index(), model.set, {});
  experts.mask([&](const std::string& module) {
    const auto size = token_map_size(model.unet->config(), module, {8, 6});
    return size ? ExpertMask(at::zeros({size->height * size->width, 2})) : ExpertMask();
  });
  const Tensor masked = model.run();
  EXPECT_FALSE(is_close(masked, base, {.atol = 1e-3, .rtol = 0})) << "text tokens keep their gate";
  experts.mask([&](const std::string& module) {
    const auto size = token_map_size(model.unet->config(), module, {8, 6});
    return ExpertMask(at::zeros({size ? size->height * size->width : 9, 2}));
  });
  EXPECT_TRUE(is_close(model.run(), base, {.atol = 1e-5, .rtol = 1e-4}));
  experts.mask({});
  EXPECT_FALSE(is_close(model.run(), base, {.atol = 0.05, .rtol = 0}));
}

}  // namespace
}  // namespace molar
