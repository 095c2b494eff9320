#include "molar/pipeline/adapter_stack.h"

#include <spdlog/spdlog.h>

#include <optional>
#include <utility>

#include "molar/adapters/lora_io.h"
#include "molar/adapters/lora_summary.h"
#include "molar/adapters/merge/merge_method.h"
#include "molar/io/hash.h"

namespace molar {
namespace {

/// The layers of one component, sharing their factors.
LoraWeights part_of(const LoraWeights& weights, const std::string& component) {
  LoraWeights part;
  part.path = weights.path;
  for (const auto& [name, layer] : weights.layers)
    if (name.component == component) part.layers.emplace(name, layer);
  return part;
}

/// Whether the network has a head for any layer of the model.
bool fits(const Hypernetwork& network, const ModelLayers& layers) {
  for (const auto& [component, index] : layers.components)
    for (const auto& [module, layer] : index)
      if (network.covers({component, module}, layer->weight().sizes().vec())) return true;
  return false;
}

/// The hypernetwork that the request's method can use, if any.
std::optional<Hypernetwork> load_hypernetwork(const AdapterRequest& request,
                                              const ModelLayers& layers) {
  if (request.hypernetwork.empty()) return std::nullopt;
  Hypernetwork network = Hypernetwork::load(request.hypernetwork);
  if (request.merge != "auto" || fits(network, layers)) return network;
  spdlog::warn("hypernetwork '{}' has no head for a layer of this model and is left out",
               request.hypernetwork.string());
  return std::nullopt;
}

/// With the strengths of single blocks in its layers' scales.
StackedLora stacked(const LoraWeights& weights, const LoraUse& use, const ModelLayers& layers) {
  StackedLora lora{weights, use.weight};
  for (const auto& [name, strength] : layer_strengths(use.blocks, layers))
    if (const auto found = lora.weights.layers.find(name); found != lora.weights.layers.end())
      found->second.scale *= strength;
  return lora;
}

}  // namespace

AdapterStack::AdapterStack(const AdapterRequest& request, const ModelLayers& layers)
    : family_(layers.family) {
  const auto load = [&](LoraRole role, const LoraUse& use) {
    LoraWeights weights = load_lora(use.file, layers, {.allow_partial = request.allow_partial});
    spdlog::info("{} {}: {} layers ({}), strength {}", role_name(role), use.file.string(),
                 weights.layers.size(), weights.key_family, strength_text(use));
    sources_.push_back({std::string(role_name(role)), use, std::move(weights)});
  };
  if (request.subject) load(LoraRole::kSubject, *request.subject);
  if (request.style) load(LoraRole::kStyle, *request.style);
  if (request.subject && request.style) {
    const std::optional<Hypernetwork> network = load_hypernetwork(request, layers);
    std::optional<MergeCoefficients> coefficients;
    if (!request.coefficients.empty()) coefficients = MergeCoefficients::load(request.coefficients);
    merge_method_ = resolve_merge_method(request.merge, {.hypernetwork = network.has_value(),
                                                         .coefficients = coefficients.has_value()});
    std::vector<MergeInput> inputs;
    for (const auto& [role, source] :
         {std::pair{LoraRole::kSubject, &sources_[0]}, {LoraRole::kStyle, &sources_[1]}})
      inputs.push_back(
          {role, source->weights, source->use.weight, layer_strengths(source->use.blocks, layers)});
    MergedLora merged = merge_loras(merge_method_, inputs,
                                    {.hypernetwork = network ? &*network : nullptr,
                                     .coefficients = coefficients ? &*coefficients : nullptr});
    spdlog::info("merged subject and style by '{}': {} layers", merge_method_, merged.summary());
    entries_.push_back({std::move(merged.weights), 1.0});
    switches_ = std::move(merged.switches);
  } else if (!sources_.empty()) {
    entries_.push_back(stacked(sources_[0].weights, sources_[0].use, layers));
  }
  for (const LoraUse& use : request.loras) {
    load(LoraRole::kOther, use);
    entries_.push_back(stacked(sources_.back().weights, use, layers));
  }
}

std::unique_ptr<FusedLoras> AdapterStack::fuse_into(const std::string& component, LayerIndex layers,
                                                    WeightSource source) const {
  std::vector<StackedLora> parts;
  std::map<LayerName, LayerSwitch> switches;
  for (const StackedLora& entry : entries_) {
    LoraWeights part = part_of(entry.weights, component);
    if (!part.layers.empty()) parts.push_back({std::move(part), entry.strength});
  }
  if (parts.empty()) return nullptr;
  for (const auto& [name, change] : switches_)
    if (name.component == component) switches.emplace(name, change);
  return std::make_unique<FusedLoras>(ModelLayers{family_, {{component, std::move(layers)}}},
                                      std::move(source), std::move(parts), std::move(switches));
}

std::vector<LoraRecord> AdapterStack::records() const {
  std::vector<LoraRecord> records;
  for (const Source& source : sources_) {
    const LoraDocumentation documentation = read_lora_documentation(source.weights.metadata);
    records.push_back({.file = source.use.file,
                       .role = source.role,
                       .weight = source.use.weight,
                       .blocks = block_strengths_text(source.use.blocks),
                       .sha256 = sha256_safetensors_data(source.weights.path),
                       .key_family = source.weights.key_family,
                       .num_layers = static_cast<int64_t>(source.weights.layers.size()),
                       .num_skipped_keys = static_cast<int64_t>(source.weights.skipped_keys.size()),
                       .trigger_words = documentation.trigger_words,
                       .licence = documentation.licence});
  }
  return records;
}

}  // namespace molar
