/// Models and LoRA files for the tests of adapters.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/adapters/model_layers.h"
#include "molar/io/safetensors.h"
#include "support/expect_close.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar::test {

/// A layer that is only its weight; replaces it as the real ones do, under the same handle.
class FakeLayer final : public AdaptableLayer {
 public:
  explicit FakeLayer(Tensor weight) : weight_(std::move(weight)) {}
  const Tensor& weight() const override { return weight_; }
  void set_weight(const Tensor& weight) override {
    if (weight.sizes() != weight_.sizes() || weight.scalar_type() != weight_.scalar_type())
      throw Error("the weight has another shape or type");
    weight_.set_data(weight);
    ++num_changes;
  }
  Tensor project(const Tensor& x, const Tensor& weight) const override {
    return at::linear(x, weight);
  }
  int num_changes = 0;

 private:
  Tensor weight_;
};

/// Layers by name with random or stored weights, and those weights again as a source.
class FakeModel {
 public:
  explicit FakeModel(ModelFamily family = ModelFamily::kSd1) { layers.family = family; }

  void add(const LayerName& name, const Tensor& weight) {
    fakes_.push_back(std::make_unique<FakeLayer>(weight.detach()));
    layers.components[name.component][name.module] = fakes_.back().get();
    weights_[name] = weight;
  }
  void add(const LayerName& name, std::vector<int64_t> shape) {
    add(name, torch::randn(shape, at::make_generator<at::CPUGeneratorImpl>(weights_.size() + 1)));
  }
  FakeLayer& layer(const LayerName& name) const {
    return dynamic_cast<FakeLayer&>(*layers.components.at(name.component).at(name.module));
  }
  const Tensor& original(const LayerName& name) const { return weights_.at(name); }
  const std::map<LayerName, Tensor>& originals() const { return weights_; }
  WeightSource source() const {
    return [this](const LayerName& name) { return weights_.at(name); };
  }

  ModelLayers layers;

 private:
  std::vector<std::unique_ptr<FakeLayer>> fakes_;
  std::map<LayerName, Tensor> weights_;
};

inline std::filesystem::path golden(const std::string& relative) {
  return std::filesystem::path(MOLAR_TEST_DATA_DIR) / relative;
}

/// One of tests/goldens/models: every matrix and kernel of its UNet and text encoders.
inline FakeModel tiny_model(const std::string& name) {
  FakeModel model(name == "sdxl-tiny"   ? ModelFamily::kSdxl
                  : name == "sd21-tiny" ? ModelFamily::kSd2
                                        : ModelFamily::kSd1);
  for (const std::string component : {"unet", "text_encoder", "text_encoder_2"}) {
    const auto folder = golden("models/" + name) / component;
    const auto file = folder / (component == "unet" ? "diffusion_pytorch_model.safetensors"
                                                    : "model.safetensors");
    if (!std::filesystem::exists(file)) continue;
    for (const auto& [key, tensor] : SafetensorsFile::open(file).state_dict()) {
      if (!key.ends_with(".weight") || tensor.dim() < 2 ||
          key.find("embedding.") != std::string::npos)
        continue;
      std::string module = key.substr(0, key.size() - std::string(".weight").size());
      const bool has_prefix =
          module.starts_with("text_model.") || module.starts_with("text_projection");
      if (component != "unet" && !has_prefix) module = "text_model." + module;
      model.add({component, module}, tensor);
    }
  }
  return model;
}

/// A small model of one attention's layers, a convolution and a text layer.
inline FakeModel small_model() {
  FakeModel model;
  model.add({"unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"}, {8, 8});
  model.add({"unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"}, {8, 6});
  model.add({"unet", "mid_block.attentions.0.proj_in"}, {8, 8, 1, 1});
  model.add({"unet", "mid_block.resnets.0.conv1"}, {8, 4, 3, 3});
  model.add({"text_encoder", "text_model.encoder.layers.0.mlp.fc1"}, {12, 6});
  return model;
}
inline const LayerName kToQ{"unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"};
inline const LayerName kToK{"unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"};
inline const LayerName kProjIn{"unet", "mid_block.attentions.0.proj_in"};
inline const LayerName kConv{"unet", "mid_block.resnets.0.conv1"};
inline const LayerName kFc1{"text_encoder", "text_model.encoder.layers.0.mlp.fc1"};
/// kohya's spelling of kToQ, for hand-made files.
inline const std::string kToQKey =
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q";
inline const std::string kConvKey = "lora_unet_mid_block_resnets_0_conv1";

inline Tensor noise(std::vector<int64_t> shape, uint64_t seed) {
  return torch::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed));
}

inline std::filesystem::path write_tensors(
    const TempFolder& folder, const std::string& name, const StateDict& tensors,
    const std::map<std::string, std::string>& metadata = {}) {
  return write_safetensors(folder / name, OnExist::kOverwrite, tensors, metadata);
}

/// A pair of factors for kToQ, rank 2.
inline StateDict small_lora() {
  return {{kToQKey + ".lora_down.weight", noise({2, 8}, 1)},
          {kToQKey + ".lora_up.weight", noise({8, 2}, 2)}};
}

}  // namespace molar::test
