#include "molar/pipeline/adapter_stack.h"

#include <algorithm>

#include "pipeline_goldens.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;
using test::LoadedModel;

// One product of rank 4 or 6 and one sum in float32.
constexpr Tolerance kRounding{.atol = 1e-5, .rtol = 1e-5};

std::filesystem::path lora_file(const std::string& name) {
  return test::goldens() / "pipeline/loras" / (name + ".safetensors");
}

LoadedModel tiny_model() { return LoadedModel(test::goldens() / "models/sd15-tiny"); }

/// What kohya's file says about one layer, from its own words: alpha / rank * up @ down.
Tensor change(const StateDict& file, const std::string& component, std::string module,
              const Tensor& weight) {
  std::ranges::replace(module, '.', '_');
  const std::string key = (component == "unet" ? "lora_unet_" : "lora_te_") + module;
  if (!file.contains(key + ".lora_up.weight")) return at::zeros_like(weight);
  const Tensor up = file.at(key + ".lora_up.weight"), down = file.at(key + ".lora_down.weight");
  const double scale = file.at(key + ".alpha").item<double>() / static_cast<double>(down.size(0));
  return scale * up.flatten(1).matmul(down.flatten(1)).view(weight.sizes());
}

/// Fuses `request` into `model` and expects W + sum of strength * change in every layer.
void expect_sum(const AdapterRequest& request, const std::vector<LoraUse>& uses) {
  const at::NoGradGuard no_grad;
  LoadedModel model = tiny_model();
  const LoadedModel original = tiny_model();
  model.fuse(request);
  std::vector<StateDict> files;
  for (const LoraUse& use : uses) files.push_back(SafetensorsFile::open(use.file).state_dict());
  int64_t num_changed = 0;
  for (const auto& [component, index] : original.layers().components)
    for (const auto& [module, layer] : index) {
      Tensor wanted = layer->weight();
      for (size_t i = 0; i < uses.size(); ++i)
        wanted = wanted + uses[i].weight * change(files[i], component, module, layer->weight());
      const Tensor& found = model.layers().components.at(component).at(module)->weight();
      EXPECT_TRUE(is_close(found, wanted, kRounding)) << component << " " << module;
      num_changed += !found.equal(layer->weight());
    }
  EXPECT_GT(num_changed, 20);
}

TEST(AdapterStack, DirectMergeIsTheSumOfBothRolesInEveryLayer) {
  AdapterRequest request = test::pipeline_case("sd15_lora_pair").request.adapters;
  ASSERT_EQ(request.merge, "direct");
  expect_sum(request, {*request.subject, *request.style});
}

TEST(AdapterStack, OtherLorasJoinAfterTheMerge) {
  AdapterRequest request = test::pipeline_case("sd15_lora_pair").request.adapters;
  request.loras = {{lora_file("kohya-b"), -0.5}, {lora_file("kohya-text"), 0.25}};
  expect_sum(request, {*request.subject, *request.style, request.loras[0], request.loras[1]});
}

TEST(AdapterStack, OneRoleActsAsAnyLora) {
  const LoraUse use{lora_file("kohya-text"), 0.75};
  AdapterRequest requests[3];
  requests[0].subject = requests[1].style = use;
  requests[2].loras = {use};
  for (const AdapterRequest& request : requests) expect_sum(request, {use});
}

TEST(AdapterStack, AComponentWithoutLorasIsLeftAlone) {
  const LoadedModel model = tiny_model();
  AdapterRequest request;
  request.loras = {{lora_file("kohya-b"), 1.0}};  // changes the UNet only
  const AdapterStack stack(request, model.layers());
  const ModelLayers layers = model.layers();
  EXPECT_EQ(stack.fuse_into("text_encoder", layers.components.at("text_encoder"), {}), nullptr);
  EXPECT_NE(stack.fuse_into("unet", layers.components.at("unet"), {}), nullptr);
  EXPECT_EQ(AdapterStack(AdapterRequest{}, model.layers())
                .fuse_into("unet", layers.components.at("unet"), {}),
            nullptr);
}

TEST(AdapterStack, RecordsNameEveryFileAsItWasAskedFor) {
  const LoadedModel model = tiny_model();
  AdapterRequest request = test::pipeline_case("sd15_lora_pair").request.adapters;
  request.loras = {{lora_file("kohya-b"), -0.5}};
  const AdapterStack stack(request, model.layers());
  EXPECT_EQ(stack.merge_method(), "direct");
  const std::vector<LoraRecord> records = stack.records();
  ASSERT_EQ(records.size(), 3U);
  const std::pair<const char*, LoraUse> wanted[] = {
      {"subject", *request.subject}, {"style", *request.style}, {"lora", request.loras[0]}};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(records[i].role, wanted[i].first);
    EXPECT_EQ(records[i].file, wanted[i].second.file);
    EXPECT_EQ(records[i].weight, wanted[i].second.weight);
    EXPECT_GT(records[i].num_layers, 0);
    EXPECT_EQ(records[i].sha256.size(), 64U);
  }
  EXPECT_EQ(records[1].sha256, records[2].sha256) << "one file in two roles";
  EXPECT_NE(records[0].sha256, records[1].sha256);
}

TEST(AdapterStack, OneRoleIsNoMerge) {
  AdapterRequest request;
  request.subject = LoraUse{lora_file("kohya-b"), 1.0};
  EXPECT_EQ(AdapterStack(request, tiny_model().layers()).merge_method(), "");
}

TEST(AdapterStack, RefusesAFileOfAnotherModel) {
  AdapterRequest request;
  request.loras = {{lora_file("kohya-text"), 1.0}};
  const LoadedModel sdxl(test::goldens() / "models/sdxl-tiny");
  expect_error<FitError>([&] { AdapterStack(request, sdxl.layers()); }, {"kohya-text"});
}

}  // namespace
}  // namespace molar
