#include "molar/models/unet_2d_condition.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "support/expect_close.h"

namespace molar {
namespace {

const std::filesystem::path kGoldens = MOLAR_TEST_DATA_DIR;
const LoadOptions kFloat32{.device = at::kCPU, .dtype = at::kFloat};

Component open_unet(const std::filesystem::path& folder) {
  return {.name = "unet",
          .source = folder.string(),
          .config = read_json_file(folder / "config.json"),
          .weights =
              SafetensorsFile::open(folder / "diffusion_pytorch_model.safetensors").state_dict()};
}

Component tiny_unet(const std::string& family) {
  return open_unet(kGoldens / "models" / (family + "-tiny") / "unet");
}

Tensor get(const StateDict& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? Tensor() : found->second;
}

UNetConditioning conditioning_of(const StateDict& golden, const std::string& call) {
  return {.encoder_hidden_states = get(golden, call + "/encoder_hidden_states"),
          .text_embeds = get(golden, call + "/text_embeds"),
          .time_ids = get(golden, call + "/time_ids"),
          .timestep_cond = get(golden, call + "/timestep_cond")};
}

/// One UNet with the inputs of one golden call.
struct Call {
  UNet2DConditionModel unet{nullptr};
  Tensor sample, timesteps;
  UNetConditioning conditioning;

  Tensor run(const UNetObserver& observe = {}) {
    const at::NoGradGuard no_grad;
    return unet->forward(sample, timesteps, conditioning, observe);
  }
};

Call tiny_call(const std::string& family, const std::string& call = "8x8",
               const LoadOptions& options = kFloat32) {
  const auto golden =
      SafetensorsFile::open(kGoldens / "unet" / (family + ".safetensors")).state_dict();
  return {.unet = load_unet(tiny_unet(family), options),
          .sample = golden.at(call + "/sample"),
          .timesteps = golden.at(call + "/timesteps"),
          .conditioning = conditioning_of(golden, call)};
}

template <typename Function>
std::string error_of(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

// float32 on both sides; sums run in another order in channels-last and in blocked kernels, so
// errors are in proportion to the largest value. Measured: at most 1.2e-5 of it. A wrong epsilon, a
// swapped order or a missing term differs by 1e-3 and more (the case "faint" is there for the
// epsilons).
Tolerance same_math_other_order(const Tensor& wanted) {
  return {.atol = 3e-5 * wanted.abs().max().item<double>(), .rtol = 1e-4};
}

TEST(UNet2DConditionModel, ComputesWhatDiffusersComputesPartByPart) {
  const Json manifest = read_json_file(kGoldens / "unet" / "MANIFEST.json");
  int compared = 0;
  for (const Json& one : manifest.at("cases")) {
    const std::string name = one.at("name");
    auto unet = load_unet(open_unet(kGoldens / one.at("model").get<std::string>()), kFloat32);
    const auto golden =
        SafetensorsFile::open(kGoldens / "unet" / (name + ".safetensors")).state_dict();
    for (const std::string call : one.at("calls")) {
      const std::string prefix = call + "/parts/";
      const auto compare = [&](std::string_view part, const Tensor& result) {
        const auto wanted = golden.find(prefix + std::string(part));
        ASSERT_NE(wanted, golden.end()) << name << " has no part " << part;
        EXPECT_TRUE(is_close(result, wanted->second, same_math_other_order(wanted->second)))
            << name << " " << call << ", first look at " << part;
        ++compared;
      };
      const at::NoGradGuard no_grad;
      unet->forward(golden.at(call + "/sample"), golden.at(call + "/timesteps"),
                    conditioning_of(golden, call), compare);
    }
  }
  int parts = 0;
  for (const Json& one : manifest.at("cases"))
    for (const auto& [name, tensor] :
         SafetensorsFile::open(kGoldens / "unet" /
                               (one.at("name").get<std::string>() + ".safetensors"))
             .state_dict())
      parts += name.find("/parts/") != std::string::npos;
  EXPECT_EQ(compared, parts) << "a part that diffusers has was never reported";
  EXPECT_GE(parts, 100);
}

// Every layer of every transformer, on maps that no power of two divides: a square root of the
// number of tokens, or the latents' size halved, would be wrong.
TEST(UNet2DConditionModel, TokenMapSizesAreThoseThatLayersSee) {
  for (const std::string family : {"sd15", "sd21", "sdxl"}) {
    Call call = tiny_call(family);
    const MapSize latents{13, 6};
    const int64_t batch = call.sample.size(0), channels = call.sample.size(1);
    call.sample = at::randn({batch, channels, latents.height, latents.width});
    int checked = 0;
    const LayerIndex layers = adaptable_layers(*call.unet);
    for (const auto& [module, layer] : layers)
      layer->set_residual([&, module = module](const Tensor& x, const Tensor& y) {
        const auto size = token_map_size(call.unet->config(), module, latents);
        const bool in_transformer = module.find(".attentions.") != std::string::npos;
        const bool reads_text = module.ends_with("attn2.to_k") || module.ends_with("attn2.to_v");
        EXPECT_EQ(size.has_value(), in_transformer && !reads_text) << module;
        if (size) {
          EXPECT_EQ(x.size(1), size->height * size->width) << module;
        }
        ++checked;
        return y;
      });
    call.run();
    EXPECT_EQ(checked, static_cast<int>(layers.size())) << family;
  }
}

TEST(UNet2DConditionModel, LeavesItsInputsAlone) {
  for (const auto layout : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
    Call call = tiny_call("sdxl");
    call.sample = call.sample.clone(layout);
    const Tensor sample = call.sample.clone();
    const Tensor text = call.conditioning.encoder_hidden_states.clone();
    const Tensor pooled = call.conditioning.text_embeds.clone();
    call.run();
    EXPECT_TRUE(at::equal(call.sample, sample));
    EXPECT_TRUE(at::equal(call.conditioning.encoder_hidden_states, text));
    EXPECT_TRUE(at::equal(call.conditioning.text_embeds, pooled));
  }
}

// Without autograd intermediate results share memory and other kernels multiply.
TEST(UNet2DConditionModel, GivesTheSameWhetherOrNotAutogradRecords) {
  for (const std::string family : {"sd15", "sdxl"}) {
    Call call = tiny_call(family);
    const Tensor plain = call.run();
    const Tensor recorded =
        call.unet->forward(call.sample.clone().requires_grad_(), call.timesteps, call.conditioning);
    EXPECT_TRUE(recorded.requires_grad());
    EXPECT_TRUE(is_close(plain, recorded, same_math_other_order(plain)));
    const c10::InferenceMode inference;
    EXPECT_TRUE(at::equal(plain, call.run()));
  }
}

// Central differences in float64: the truncation error at this step is about 1e-8 of the value.
TEST(UNet2DConditionModel, HasTheGradientThatFiniteDifferencesShow) {
  for (const std::string family : {"sd15", "sdxl"}) {
    Call call = tiny_call(family, "9x7", {.device = at::kCPU, .dtype = at::kDouble});
    const auto widen = [](Tensor& tensor) {
      if (tensor.defined()) tensor = tensor.to(at::kDouble);
    };
    widen(call.sample);
    widen(call.conditioning.encoder_hidden_states);
    widen(call.conditioning.text_embeds);
    auto layers = std::map<std::string, Tensor>();
    for (const auto& parameter : call.unet->named_parameters())
      layers.emplace(parameter.key(), parameter.value());
    Tensor weight = layers.at("mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight");
    weight.requires_grad_();
    torch::manual_seed(7);
    const Tensor probe = at::randn({2, 4, 9, 7}, at::kDouble);
    const Tensor sample = call.sample.clone().requires_grad_();
    const auto loss = [&](const Tensor& input) {
      return (call.unet->forward(input, call.timesteps, call.conditioning) * probe).sum();
    };
    loss(sample).backward();

    const at::NoGradGuard no_grad;
    constexpr double kStep = 1e-5;
    const Tensor direction = at::randn_like(call.sample);
    const double along_sample =
        (loss(call.sample + kStep * direction) - loss(call.sample - kStep * direction))
            .item<double>() /
        (2 * kStep);
    EXPECT_NEAR((sample.grad() * direction).sum().item<double>(), along_sample,
                1e-5 * std::abs(along_sample))
        << family;

    const Tensor turn = at::randn_like(weight), kept = weight.detach().clone();
    weight.set_data(kept + kStep * turn);
    const double above = loss(call.sample).item<double>();
    weight.set_data(kept - kStep * turn);
    const double below = loss(call.sample).item<double>();
    EXPECT_NEAR((weight.grad() * turn).sum().item<double>(), (above - below) / (2 * kStep),
                1e-5 * std::abs(above - below) / kStep)
        << family;
  }
}

TEST(UNet2DConditionModel, RunsAtSizesThatNoPowerOfTwoDivides) {
  Call call = tiny_call("sdxl");
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{1, 1}, {5, 3}, {4, 13}}) {
    torch::manual_seed(0);
    call.sample = at::randn({2, 4, height, width});
    const Tensor out = call.run();
    EXPECT_EQ(out.sizes(), call.sample.sizes());
    EXPECT_TRUE(out.isfinite().all().item<bool>());
  }
}

// 8 and 11 bits of mantissa through about 40 layers; the outputs are of size one.
TEST(UNet2DConditionModel, ComputesInHalfPrecisionsCloseToFloat32) {
  Call full = tiny_call("sd21");
  const Tensor wanted = full.run();
  for (const auto& [dtype, atol] : {std::pair{at::kBFloat16, 0.15}, std::pair{at::kHalf, 0.02}}) {
    Call call = tiny_call("sd21", "8x8", {.device = at::kCPU, .dtype = dtype});
    call.sample = call.sample.to(dtype);
    call.conditioning.encoder_hidden_states = call.conditioning.encoder_hidden_states.to(dtype);
    const Tensor out = call.run();
    EXPECT_EQ(out.scalar_type(), dtype);
    EXPECT_TRUE(is_close(out, wanted, {.atol = atol, .rtol = 0.0})) << dtype_name(dtype);
  }
}

TEST(UNet2DConditionModel, ReadsEachRowsOwnTimestep) {
  Call call = tiny_call("sd15");
  const Tensor both = call.run();
  call.timesteps = call.timesteps[1].reshape({1});
  const Tensor second_only = call.run();
  EXPECT_TRUE(is_close(second_only[1], both[1]));
  EXPECT_FALSE(is_close(second_only[0], both[0]));
}

TEST(UNet2DConditionModel, NamesTheInputThatIsMissingOrWrong) {
  Call call = tiny_call("sdxl");
  const UNetConditioning good = call.conditioning;
  const auto error = [&] { return error_of([&] { call.run(); }); };

  call.conditioning.text_embeds = Tensor();
  EXPECT_EQ(error(), "the UNet's text_embeds is missing, its config asks for it");
  call.conditioning = good;
  call.conditioning.time_ids = Tensor();
  EXPECT_EQ(error(), "the UNet's time_ids is missing, its config asks for it");
  call.conditioning = good;
  call.conditioning.time_ids = good.time_ids.slice(1, 0, 5);
  EXPECT_EQ(error(),
            "the UNet's text_embeds and embedded time_ids have 72 values together, its config asks "
            "for 80");
  call.conditioning = good;
  call.conditioning.encoder_hidden_states = Tensor();
  EXPECT_EQ(error(), "the UNet's encoder_hidden_states is missing, its config asks for it");
  call.conditioning.encoder_hidden_states = good.encoder_hidden_states.slice(2, 0, 8);
  EXPECT_NE(error().find("encoder_hidden_states"), std::string::npos);
  call.conditioning = good;
  call.conditioning.timestep_cond = at::zeros({2, 6});
  EXPECT_EQ(error(), "the UNet's timestep_cond is given, but its config has no place for it");
  call.conditioning = good;
  call.timesteps = at::zeros({3});
  EXPECT_EQ(error(), "the UNet's timesteps must be [2] or [1], are [3]");
  call.timesteps = at::zeros({1});
  call.sample = at::zeros({2, 9, 8, 8});
  EXPECT_NE(error().find("the UNet's sample"), std::string::npos);
}

}  // namespace
}  // namespace molar
