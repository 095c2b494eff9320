#include "molar/models/model_loader.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "molar/models/module_index.h"
#include "molar/models/resnet.h"
#include "support/expect_close.h"

namespace molar {
namespace {

const LoadOptions kFloat32{.device = at::kCPU, .dtype = at::kFloat};

/// A block with one of each kind of layer: norm1, conv1, time_emb_proj, norm2, conv2,
/// conv_shortcut.
ResnetBlock2D make_block() {
  return ResnetBlock2D(
      ResnetBlock2DOptions{.in_channels = 4, .out_channels = 8, .temb_channels = 6, .groups = 2});
}

Component weights_for(const torch::nn::Module& module, at::ScalarType dtype = at::kFloat) {
  torch::manual_seed(1);
  Component component{.name = "unet", .source = "m/unet", .config = Json::object(), .weights = {}};
  for (const auto& parameter : module.named_parameters())
    component.weights[parameter.key()] = at::randn(parameter.value().sizes()).to(dtype);
  return component;
}

template <typename Function>
std::string file_error_of(const Function& function) {
  try {
    function();
  } catch (const FileError& error) {
    return error.what();
  }
  return "no FileError was thrown";
}

TEST(ModelLoader, UsesTensorsInPlaceWhereNothingHasToChange) {
  ResnetBlock2D block = make_block();
  const Component component = weights_for(*block);
  load_weights(*block, component, kFloat32);
  const auto loaded = block->named_parameters();
  for (const auto& [name, tensor] : component.weights)
    EXPECT_EQ(loaded[name].data_ptr(), tensor.data_ptr()) << name;
}

TEST(ModelLoader, MakesConvolutionsOfHalfPrecisionChannelsLast) {
  ResnetBlock2D block = make_block();
  const Component component = weights_for(*block, at::kBFloat16);
  load_weights(*block, component, {.device = at::kCPU, .dtype = at::kBFloat16});
  const auto loaded = block->named_parameters();
  EXPECT_TRUE(loaded["conv1.weight"].is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(at::equal(loaded["conv1.weight"], component.weights.at("conv1.weight")));
  EXPECT_EQ(loaded["conv_shortcut.weight"].data_ptr(),
            component.weights.at("conv_shortcut.weight").data_ptr());
}

TEST(ModelLoader, ConvertsOtherTypes) {
  for (const auto stored : {at::kHalf, at::kBFloat16, at::kDouble}) {
    ResnetBlock2D block = make_block();
    const Component component = weights_for(*block, stored);
    load_weights(*block, component, kFloat32);
    for (const auto& parameter : block->named_parameters()) {
      EXPECT_EQ(parameter.value().scalar_type(), at::kFloat);
      EXPECT_TRUE(
          at::equal(parameter.value(), component.weights.at(parameter.key()).to(at::kFloat)));
    }
  }
}

TEST(ModelLoader, ReadsMappedFilesWithoutTouchingThem) {
  const auto path = std::filesystem::temp_directory_path() / "molar_model_loader_test.safetensors";
  ResnetBlock2D block = make_block();
  Component component = weights_for(*block);
  const StateDict original = component.weights;
  write_safetensors(path, OnExist::kOverwrite, original, {});
  component.weights = SafetensorsFile::open(path).state_dict();
  load_weights(*block, component, kFloat32);
  component.weights.clear();  // the module alone keeps the mapping alive
  std::filesystem::remove(path);
  for (const auto& parameter : block->named_parameters())
    EXPECT_TRUE(at::equal(parameter.value(), original.at(parameter.key()))) << parameter.key();
}

TEST(ModelLoader, GivesOrdinaryTensorsUnderInferenceMode) {
  ResnetBlock2D block = make_block();
  const Component component = weights_for(*block, at::kHalf);
  {
    const c10::InferenceMode inference;
    load_weights(*block, component, kFloat32);
  }
  for (const auto& parameter : block->named_parameters())
    EXPECT_FALSE(parameter.value().is_inference());
}

TEST(ModelLoader, BringsBackALayersOwnWeight) {
  for (const auto stored : {at::kFloat, at::kHalf}) {
    ResnetBlock2D block = make_block();
    const Component component = weights_for(*block, stored);
    load_weights(*block, component, kFloat32);
    const LayerIndex layers = adaptable_layers(*block);
    for (const auto& [name, layer] : layers) {
      const Tensor before = layer->weight().clone();
      layer->set_weight(layer->weight() + 1);
      layer->set_weight(load_parameter(component, name + ".weight", kFloat32));
      EXPECT_TRUE(at::equal(layer->weight(), before)) << name;
      EXPECT_EQ(layer->weight().strides(), before.strides()) << name;
    }
  }
}

TEST(ModelLoader, NamesMissingAndUnexpectedTensors) {
  ResnetBlock2D block = make_block();
  Component component = weights_for(*block);
  component.weights.erase("norm2.bias");
  EXPECT_EQ(file_error_of([&] { load_weights(*block, component, kFloat32); }),
            "m/unet: the weights of 'unet' do not fit its config: 1 tensor missing: norm2.bias");
  component.weights["extra.weight"] = at::zeros({1});
  EXPECT_EQ(file_error_of([&] { load_weights(*block, component, kFloat32); }),
            "m/unet: the weights of 'unet' do not fit its config: 1 tensor missing: norm2.bias; "
            "1 tensor not in the model: extra.weight");
  component.weights.clear();
  EXPECT_EQ(
      file_error_of([&] { load_weights(*block, component, kFloat32); }),
      "m/unet: the weights of 'unet' do not fit its config: 12 tensors missing: norm1.weight, "
      "norm1.bias, conv1.weight, conv1.bias, norm2.weight, ...");
}

TEST(ModelLoader, IgnoresOnlyWhatItIsToldToIgnore) {
  ResnetBlock2D block = make_block();
  Component component = weights_for(*block);
  component.weights["position_ids"] = at::arange(3);
  EXPECT_NE(file_error_of([&] { load_weights(*block, component, kFloat32); }).find("position_ids"),
            std::string::npos);
  load_weights(*block, component, kFloat32, {"position_ids"});
  EXPECT_TRUE(
      at::equal(block->named_parameters()["norm1.bias"], component.weights.at("norm1.bias")));
}

TEST(ModelLoader, NamesAWrongShapeOrTypeAndLoadsNothing) {
  ResnetBlock2D block = make_block();
  Component component = weights_for(*block);
  component.weights["conv2.weight"] = at::zeros({8, 8, 1, 1});
  EXPECT_EQ(
      file_error_of([&] { load_weights(*block, component, kFloat32); }),
      "m/unet: tensor 'conv2.weight' has shape [8, 8, 1, 1], the config asks for [8, 8, 3, 3]");
  component = weights_for(*block);
  component.weights["conv2.bias"] = at::zeros({8}, at::kLong);
  EXPECT_EQ(file_error_of([&] { load_weights(*block, component, kFloat32); }),
            "m/unet: tensor 'conv2.bias' is int64, wanted float32, float16 or bfloat16");
  EXPECT_EQ(block->named_parameters()["norm1.weight"].storage().nbytes(), sizeof(float));
}

TEST(ModelLoader, SaysWhichParameterTheCheckpointLacks) {
  EXPECT_EQ(file_error_of([] {
              load_parameter({.name = "unet", .source = "m/unet", .config = {}, .weights = {}},
                             "conv_in.weight", kFloat32);
            }),
            "m/unet: no tensor 'conv_in.weight'");
}

TEST(ModelLoader, ModelsWithoutWeightsAreCheckedAgainstTheTensors) {
  const Checkpoint checkpoint =
      open_checkpoint(std::filesystem::path(MOLAR_TEST_DATA_DIR) / "models/sd15-tiny", {});
  const auto refusal = [&](const char* name, const char* tensor, const auto& make) {
    EXPECT_NO_THROW(make(checkpoint.component(name)));
    Component component = checkpoint.component(name);
    component.weights.at(tensor) = at::zeros({3});
    EXPECT_NE(file_error_of([&] { make(component); }).find(tensor), std::string::npos) << name;
    component.weights.erase(tensor);
    return file_error_of([&] { make(component); });
  };
  EXPECT_NE(refusal("unet", "conv_in.bias", make_unet).find("1 tensor missing: conv_in.bias"),
            std::string::npos);
  EXPECT_NE(refusal("vae", "quant_conv.bias", make_vae).find("1 tensor missing: quant_conv.bias"),
            std::string::npos);
  EXPECT_NE(refusal("text_encoder", "text_model.final_layer_norm.bias", make_text_encoder)
                .find("1 tensor missing: text_model.final_layer_norm.bias"),
            std::string::npos);
}

}  // namespace
}  // namespace molar
