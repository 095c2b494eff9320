#include "molar/models/autoencoder_kl.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "molar/models/model_loader.h"
#include "support/expect_close.h"

namespace molar {
namespace {

const std::filesystem::path kGoldens = MOLAR_TEST_DATA_DIR;
const LoadOptions kFloat32{.device = at::kCPU, .dtype = at::kFloat};
// float32 on both sides; convolutions sum in another order in channels-last.
constexpr Tolerance kSameMathOtherOrder{.atol = 2e-5, .rtol = 1e-4};

Component open_vae(const std::filesystem::path& folder) {
  return {.name = "vae",
          .source = folder.string(),
          .config = read_json_file(folder / "config.json"),
          .weights =
              SafetensorsFile::open(folder / "diffusion_pytorch_model.safetensors").state_dict()};
}

Component tiny_vae(const std::string& family = "sd15") {
  return open_vae(kGoldens / "models" / (family + "-tiny") / "vae");
}

StateDict golden_of(const std::string& name) {
  return SafetensorsFile::open(kGoldens / "vae" / (name + ".safetensors")).state_dict();
}

template <typename Exception, typename Function>
std::string refusal(const Function& function) {
  try {
    function();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

class AutoencoderKLGolden : public testing::Test {
 protected:
  /// Calls check(name, vae, golden tensors) for every autoencoder in the goldens.
  template <typename Check>
  void for_each_case(const Check& check) {
    const at::NoGradGuard no_grad;
    const Json manifest = read_json_file(kGoldens / "vae/MANIFEST.json");
    ASSERT_EQ(manifest.at("cases").size(), 5U);
    for (const Json& one : manifest.at("cases")) {
      const std::string name = one.at("name");
      check(name, load_vae(open_vae(kGoldens / one.at("model").get<std::string>()), kFloat32),
            golden_of(name));
    }
  }
};

TEST_F(AutoencoderKLGolden, ComputesWhatDiffusersComputesPartByPart) {
  for_each_case([](const std::string& name, AutoencoderKL vae, const StateDict& golden) {
    size_t compared = 0;
    const auto compare = [&](std::string_view part, const Tensor& result) {
      const auto wanted = golden.find("parts/" + std::string(part));
      ASSERT_NE(wanted, golden.end()) << name << " has no part " << part;
      EXPECT_TRUE(is_close(result, wanted->second, kSameMathOtherOrder))
          << name << ", first look at " << part;
      ++compared;
    };
    const LatentDistribution latents = vae->encode(golden.at("image"), compare);
    vae->decode(golden.at("latents"), compare);
    size_t parts = 0;
    for (const auto& [key, tensor] : golden) parts += key.starts_with("parts/");
    EXPECT_EQ(compared, parts) << name << ": a part that diffusers has was never reported";
    EXPECT_TRUE(
        is_close(latents.sample(golden.at("noise")), golden.at("sample"), kSameMathOtherOrder))
        << name;
    EXPECT_TRUE(latents.mode().equal(latents.mean));
  });
}

TEST_F(AutoencoderKLGolden, TilesAreThoseOfDiffusers) {
  for_each_case([](const std::string& name, AutoencoderKL vae, const StateDict& golden) {
    vae->set_tiling(true);
    Tensor moments;
    int tiles = 0;
    const auto watch = [&](std::string_view part, const Tensor& result) {
      if (part == "moments") moments = result;
      tiles += part == "encoder.conv_out" || part == "decoder.conv_out";
    };
    vae->encode(golden.at("tiled/image"), watch);
    EXPECT_TRUE(is_close(moments, golden.at("tiled/moments"), kSameMathOtherOrder)) << name;
    EXPECT_GE(tiles, 6) << name << ": the picture must need several tiles each way";
    tiles = 0;
    const Tensor pixels = vae->decode(golden.at("tiled/latents"), watch);
    EXPECT_TRUE(is_close(pixels, golden.at("tiled/pixels"), kSameMathOtherOrder)) << name;
    EXPECT_GE(tiles, 6) << name;
  });
}

TEST(AutoencoderKL, SmallPicturesAreNotTiled) {
  const at::NoGradGuard no_grad;
  AutoencoderKL vae = load_vae(tiny_vae(), kFloat32);
  const Tensor latents = golden_of("sd15").at("latents");
  const Tensor whole = vae->decode(latents);
  vae->set_tiling(true);
  EXPECT_TRUE(vae->decode(latents).equal(whole));
  vae->set_tiling(false);
  const Tensor large = golden_of("sd15").at("tiled/latents");
  EXPECT_FALSE(
      is_close(vae->decode(large), golden_of("sd15").at("tiled/pixels"), kSameMathOtherOrder))
      << "tiles change the picture; without them it must differ";
}

TEST(AutoencoderKL, BatchesAreIndependent) {
  const at::NoGradGuard no_grad;
  AutoencoderKL vae = load_vae(tiny_vae("sd21"), kFloat32);
  const Tensor one = golden_of("sd21").at("latents");
  const Tensor both = vae->decode(at::cat({one, one.flip(2)}));
  EXPECT_TRUE(is_close(both.slice(0, 0, 1), vae->decode(one)));
  EXPECT_TRUE(is_close(both.slice(0, 1, 2), vae->decode(one.flip(2))));
}

TEST(AutoencoderKL, LeavesItsInputsAlone) {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"sd15", "no_quant_no_attention"}) {
    AutoencoderKL vae =
        load_vae(name == "sd15" ? tiny_vae() : open_vae(kGoldens / "vae" / name), kFloat32);
    const StateDict golden = golden_of(name);
    for (const auto layout : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
      const Tensor image = golden.at("tiled/image").clone(layout),
                   latents = golden.at("tiled/latents").clone(layout);
      for (const bool tiling : {false, true}) {
        vae->set_tiling(tiling);
        vae->encode(image);
        vae->decode(latents);
      }
      EXPECT_TRUE(image.equal(golden.at("tiled/image")));
      EXPECT_TRUE(latents.equal(golden.at("tiled/latents")));
    }
  }
}

TEST(AutoencoderKL, KeepsGradientsWhereTheyAreAskedFor) {
  AutoencoderKL vae = load_vae(tiny_vae(), kFloat32);
  const Tensor latents = golden_of("sd15").at("latents").clone().requires_grad_();
  vae->decode(latents).square().mean().backward();
  const Tensor slope = latents.grad();
  // A second derivation: the change of the loss along one direction, by central differences.
  const at::NoGradGuard no_grad;
  const Tensor direction = at::ones_like(latents);
  const auto loss = [&](double step) {
    return vae->decode(latents.detach() + step * direction).square().mean().item<double>();
  };
  const double measured = (loss(1e-2) - loss(-1e-2)) / 2e-2, computed = slope.sum().item<double>();
  EXPECT_NEAR(computed, measured, 0.02 * std::abs(measured) + 1e-4);
}

TEST(AutoencoderKL, DecodesInBfloat16) {
  const at::NoGradGuard no_grad;
  AutoencoderKL exact = load_vae(tiny_vae(), kFloat32);
  AutoencoderKL rounded = load_vae(tiny_vae(), {.device = at::kCPU, .dtype = at::kBFloat16});
  const Tensor latents = golden_of("sd15").at("latents");
  const Tensor pixels = rounded->decode(latents.to(at::kBFloat16));
  EXPECT_EQ(pixels.scalar_type(), at::kBFloat16);
  // 8 bits of precision through about 20 layers.
  const Tensor error = (pixels.to(at::kFloat) - exact->decode(latents)).abs();
  EXPECT_LT(error.mean().item<double>(), 0.05);
}

TEST(AutoencoderKL, VarianceStaysWithinItsBounds) {
  const at::NoGradGuard no_grad;
  Component component = tiny_vae();
  Tensor bias = component.weights.at("quant_conv.bias").clone();
  bias.slice(0, 4, 6) += 1000;
  bias.slice(0, 6, 8) -= 1000;
  component.weights["quant_conv.bias"] = bias;
  const LatentDistribution latents =
      load_vae(component, kFloat32)->encode(golden_of("sd15").at("image"));
  EXPECT_TRUE(latents.logvar.slice(1, 0, 2).eq(20).all().item<bool>());
  EXPECT_TRUE(latents.logvar.slice(1, 2, 4).eq(-30).all().item<bool>());
}

TEST(AutoencoderKL, ScalesLatentsByTheFactorAlone) {
  AutoencoderKL vae(AutoencoderKLConfig::from_json({{"scaling_factor", 0.25}}, "c"));
  const Tensor latents = torch::tensor({1.0F, -2.0F, 3.0F, 4.0F}).view({1, 4, 1, 1});
  EXPECT_TRUE(vae->to_scaled_latents(latents).equal(latents * 0.25));
  EXPECT_TRUE(vae->from_scaled_latents(latents * 0.25).equal(latents));
}

TEST(AutoencoderKL, ScalesLatentsByTheirStatisticsWhereTheConfigHasThem) {
  AutoencoderKL vae(AutoencoderKLConfig::from_json(
      {{"scaling_factor", 0.5}, {"latents_mean", {1, 2, 3, 4}}, {"latents_std", {1, 2, 4, 8}}},
      "c"));
  const Tensor latents = torch::tensor({3.0F, 6.0F, 7.0F, -4.0F}).view({1, 4, 1, 1});
  const Tensor scaled = torch::tensor({1.0F, 1.0F, 0.5F, -0.5F}).view({1, 4, 1, 1});
  EXPECT_TRUE(vae->to_scaled_latents(latents).equal(scaled));
  EXPECT_TRUE(vae->from_scaled_latents(scaled).equal(latents));
}

TEST(AutoencoderKL, WrongInputsAreRefused) {
  AutoencoderKL vae = load_vae(tiny_vae(), kFloat32);
  EXPECT_SAYS(refusal<Error>([&] { vae->decode(torch::zeros({1, 3, 8, 8})); }), "[B, 4, H, W]");
  EXPECT_SAYS(refusal<Error>([&] { vae->decode(torch::zeros({1, 4, 0, 8})); }),
              "the latents to decode");
  EXPECT_SAYS(refusal<Error>([&] { vae->encode(torch::zeros({3, 64, 64})); }),
              "the pixels to encode");
  const LatentDistribution latents{torch::zeros({1, 4, 2, 2}), torch::zeros({1, 4, 2, 2})};
  EXPECT_SAYS(refusal<Error>([&] { latents.sample(torch::zeros({1, 4, 2, 3})); }), "[1, 4, 2, 2]");
}

TEST(AutoencoderKL, TilesTooSmallToOverlapAreRefused) {
  AutoencoderKL vae(AutoencoderKLConfig::from_json(
      {{"sample_size", 3},
       {"block_out_channels", {32, 32}},
       {"down_block_types", {"DownEncoderBlock2D", "DownEncoderBlock2D"}},
       {"up_block_types", {"UpDecoderBlock2D", "UpDecoderBlock2D"}}},
      "c"));
  EXPECT_SAYS(refusal<FileError>([&] { vae->set_tiling(true); }),
              "'sample_size' 3, tiles need at least 4");
  EXPECT_NO_THROW(vae->set_tiling(false));
}

TEST(AutoencoderKLConfig, HasDiffusersDefaults) {
  const auto config = AutoencoderKLConfig::from_json(Json::object(), "c");
  EXPECT_EQ(config.in_channels, 3);
  EXPECT_EQ(config.out_channels, 3);
  EXPECT_EQ(config.block_out_channels, std::vector<int64_t>{64});
  EXPECT_EQ(config.layers_per_block, 1);
  EXPECT_EQ(config.latent_channels, 4);
  EXPECT_EQ(config.norm_num_groups, 32);
  EXPECT_EQ(config.sample_size, 32);
  EXPECT_EQ(config.scaling_factor, 0.18215);
  EXPECT_TRUE(config.force_upcast);
  EXPECT_TRUE(config.use_quant_conv);
  EXPECT_TRUE(config.use_post_quant_conv);
  EXPECT_TRUE(config.mid_block_add_attention);
  EXPECT_EQ(config.scale_factor(), 1);
}

TEST(AutoencoderKLConfig, RefusesByNameWhatItDoesNotSupport) {
  const std::pair<const char*, Json> cases[] = {
      {"'act_fn'", {{"act_fn", "gelu"}}},
      {"'shift_factor'", {{"shift_factor", 0.1}}},
      {"'AttnDownEncoderBlock2D'", {{"down_block_types", {"AttnDownEncoderBlock2D"}}}},
      {"'up_block_types'", {{"up_block_types", {"AttnUpDecoderBlock2D"}}}},
      {"'down_block_types' has 2 blocks",
       {{"down_block_types", {"DownEncoderBlock2D", "DownEncoderBlock2D"}}}},
      {"'up_block_types' has 0 blocks", {{"up_block_types", Json::array()}}},
      {"'down_block_types' has 1 blocks", {{"block_out_channels", Json::array()}}},
      {"'block_out_channels' 60", {{"block_out_channels", {60}}}},
      {"'block_out_channels'", {{"block_out_channels", {0}}}},
      {"'block_out_channels'", {{"block_out_channels", 64}}},
      {"'in_channels'", {{"in_channels", 0}}},
      {"'out_channels'", {{"out_channels", -1}}},
      {"'latent_channels'", {{"latent_channels", 1 << 20}}},
      {"'layers_per_block'", {{"layers_per_block", 0}}},
      {"'layers_per_block'", {{"layers_per_block", {1, 2}}}},
      {"'norm_num_groups'", {{"norm_num_groups", 0}}},
      {"'sample_size'", {{"sample_size", 0}}},
      {"'sample_size'", {{"sample_size", {64, 64}}}},
      {"'scaling_factor'", {{"scaling_factor", 0}}},
      {"'scaling_factor'", {{"scaling_factor", "x"}}},
      {"'latents_mean' has 4 values", {{"latents_mean", {0, 0, 0, 0}}}},
      {"'latents_mean' has 3 values", {{"latents_mean", {0, 0, 0}}, {"latents_std", {1, 1, 1}}}},
      {"'latents_std' must be above 0",
       {{"latents_mean", {0, 0, 0, 0}}, {"latents_std", {1, 1, 0, 1}}}},
      {"'use_quant_conv'", {{"use_quant_conv", 1}}},
      {"'scaling_factor' = null", {{"scaling_factor", nullptr}}},
      {"'sample_size' = null", {{"sample_size", nullptr}}},
      {"'force_upcast' = null", {{"force_upcast", nullptr}}},
      {"'novelty'", {{"novelty", 1}}},
  };
  for (const auto& [part, json] : cases) {
    const auto message =
        refusal<FileError>([&] { AutoencoderKLConfig::from_json(json, "vae/config.json"); });
    EXPECT_SAYS(message, part);
    EXPECT_SAYS(message, "vae/config.json");
  }
}

}  // namespace
}  // namespace molar
