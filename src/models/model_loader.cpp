#include "molar/models/model_loader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"

namespace molar {
namespace {

// Saved by transformers before 4.31: the numbers 0, 1, 2, ...
const std::vector<std::string> kUnreadOfTextEncoder = {"text_model.embeddings.position_ids"};

// Note [Packed weights] (layers.h): float32 convolutions on the CPU rearrange their weights
// themselves.
at::MemoryFormat wanted_layout(const Tensor& stored, const LoadOptions& options) {
  const bool convolution = stored.dim() == 4;
  const bool half = options.dtype == at::kHalf || options.dtype == at::kBFloat16;
  return convolution && half ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// "3 tensors are missing: a, b, c"; the first five names stand for all.
std::string name_list(const std::vector<std::string>& names, std::string_view what) {
  constexpr size_t kShown = 5;
  const auto end = names.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, names.size()));
  return fmt::format("{} {} {}: {}{}", names.size(), names.size() == 1 ? "tensor" : "tensors", what,
                     fmt::join(names.begin(), end, ", "), names.size() > kShown ? ", ..." : "");
}

void check_names(const torch::OrderedDict<std::string, Tensor>& parameters,
                 const Component& component, const std::vector<std::string>& ignored) {
  std::vector<std::string> missing, unexpected;
  for (const auto& parameter : parameters)
    if (!component.weights.contains(parameter.key())) missing.push_back(parameter.key());
  for (const auto& [name, tensor] : component.weights)
    if (!parameters.contains(name) && std::ranges::find(ignored, name) == ignored.end())
      unexpected.push_back(name);
  if (missing.empty() && unexpected.empty()) return;
  std::string problem = missing.empty() ? "" : name_list(missing, "missing");
  if (!unexpected.empty())
    problem += (missing.empty() ? "" : "; ") + name_list(unexpected, "not in the model");
  throw FileError(fmt::format("{}: the weights of '{}' do not fit its config: {}", component.source,
                              component.name, problem));
}

void check_tensor(const Tensor& wanted, const Tensor& found, const std::string& name,
                  const Component& component) {
  if (wanted.sizes() != found.sizes())
    throw FileError(fmt::format("{}: tensor '{}' has shape {}, the config asks for {}",
                                component.source, name, shape_string(found.sizes()),
                                shape_string(wanted.sizes())));
  if (!at::isFloatingType(found.scalar_type()))
    throw FileError(fmt::format("{}: tensor '{}' is {}, wanted float32, float16 or bfloat16",
                                component.source, name, dtype_name(found.scalar_type())));
}

void check_weights(const torch::nn::Module& module, const Component& component,
                   const std::vector<std::string>& ignored) {
  const auto parameters = module.named_parameters();
  check_names(parameters, component, ignored);
  for (const auto& parameter : parameters)
    check_tensor(parameter.value(), component.weights.at(parameter.key()), parameter.key(),
                 component);
}

// Of a module that check_weights passed.
void fill_weights(torch::nn::Module& module, const Component& component,
                  const LoadOptions& options) {
  // Ordinary tensors even under a caller's InferenceMode: the module outlives it, training may
  // follow.
  const c10::InferenceMode ordinary_tensors(false);
  const at::NoGradGuard no_grad;
  for (const auto& parameter : module.named_parameters())
    parameter.value().set_data(load_parameter(component, parameter.key(), options));
}

}  // namespace

Tensor to_compute_form(const Tensor& stored, const LoadOptions& options) {
  const at::MemoryFormat layout = wanted_layout(stored, options);
  if (stored.scalar_type() == options.dtype && stored.device() == options.device &&
      stored.is_contiguous(layout))
    return stored;
  const auto target = at::TensorOptions().dtype(options.dtype).device(options.device);
  const Tensor converted = at::empty(stored.sizes(), target, layout).copy_(stored);
  release_mapped_pages(stored);
  return converted;
}

Tensor load_parameter(const Component& component, const std::string& name,
                      const LoadOptions& options) {
  const auto found = component.weights.find(name);
  if (found == component.weights.end())
    throw FileError(fmt::format("{}: no tensor '{}'", component.source, name));
  return to_compute_form(found->second, options);
}

void load_weights(torch::nn::Module& module, const Component& component, const LoadOptions& options,
                  const std::vector<std::string>& ignored) {
  check_weights(module, component, ignored);
  fill_weights(module, component, options);
}

UNet2DConditionModel make_unet(const Component& component) {
  UNet2DConditionModel unet(
      UNet2DConditionConfig::from_json(component.config, component.name + "/config.json"));
  check_weights(*unet, component, {});
  return unet;
}

AutoencoderKL make_vae(const Component& component) {
  AutoencoderKL vae(
      AutoencoderKLConfig::from_json(component.config, component.name + "/config.json"));
  check_weights(*vae, component, {});
  return vae;
}

CLIPTextModel make_text_encoder(const Component& component) {
  CLIPTextModel encoder(
      CLIPTextConfig::from_json(component.config, component.name + "/config.json"));
  check_weights(*encoder, component, kUnreadOfTextEncoder);
  return encoder;
}

UNet2DConditionModel load_unet(const Component& component, const LoadOptions& options) {
  UNet2DConditionModel unet = make_unet(component);
  fill_weights(*unet, component, options);
  return unet;
}

AutoencoderKL load_vae(const Component& component, const LoadOptions& options) {
  AutoencoderKL vae = make_vae(component);
  fill_weights(*vae, component, options);
  return vae;
}

CLIPTextModel load_text_encoder(const Component& component, const LoadOptions& options) {
  CLIPTextModel encoder = make_text_encoder(component);
  fill_weights(*encoder, component, options);
  return encoder;
}

}  // namespace molar
