#include "molar/pipeline/adapter_stack.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <span>
#include <utility>

#include "molar/adapters/lora_summary.h"

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

/// The two roles, which stand first.
std::vector<MergeInput> merge_inputs(const OpenedAdapters& opened, const ModelLayers& layers) {
  std::vector<MergeInput> inputs;
  for (const auto& [role, use, file] : std::span(opened.sources).first<2>())
    inputs.push_back(
        {role, file->weights, use.weight, layer_strengths(use.blocks, layers), file->sha256});
  return inputs;
}

MergeOptions merge_options(const OpenedAdapters& opened) {
  return {.hypernetwork = opened.hypernetwork ? &*opened.hypernetwork : nullptr,
          .coefficients = opened.coefficients ? &*opened.coefficients : nullptr};
}

}  // namespace

OpenedAdapters open_adapters(const AdapterRequest& request, const ModelLayers& layers,
                             LoraFiles& files) {
  OpenedAdapters opened;
  const auto open = [&](LoraRole role, const LoraUse& use) {
    opened.sources.push_back(
        {role, use, files.open(use.file, layers, {.allow_partial = request.allow_partial})});
    layer_strengths(use.blocks, layers);  // refuses blocks that the model lacks
  };
  if (request.subject) open(LoraRole::kSubject, *request.subject);
  if (request.style) open(LoraRole::kStyle, *request.style);
  if (request.subject && request.style) {
    opened.hypernetwork = load_hypernetwork(request, layers);
    if (!request.coefficients.empty())
      opened.coefficients = MergeCoefficients::load(request.coefficients);
    opened.merge_method =
        resolve_merge_method(request.merge, {.hypernetwork = opened.hypernetwork.has_value(),
                                             .coefficients = opened.coefficients.has_value()});
    check_merge(opened.merge_method, merge_inputs(opened, layers), merge_options(opened));
  }
  for (const LoraUse& use : request.loras) open(LoraRole::kOther, use);
  return opened;
}

AdapterStack::AdapterStack(const AdapterRequest& request, const ModelLayers& layers)
    : AdapterStack(
          [&] {
            LoraFiles files(0);
            return open_adapters(request, layers, files);
          }(),
          layers) {}

AdapterStack::AdapterStack(OpenedAdapters opened, const ModelLayers& layers)
    : family_(layers.family), opened_(std::move(opened)) {
  const auto& sources = opened_.sources;
  for (const auto& [role, use, file] : sources)
    spdlog::info("{} {}: {} layers ({}), strength {}", role_name(role), use.file.string(),
                 file->weights.layers.size(), file->weights.key_family, strength_text(use));
  size_t num_merged = 0;
  if (!opened_.merge_method.empty()) {
    const std::vector<MergeInput> inputs = merge_inputs(opened_, layers);
    num_merged = inputs.size();
    MergedLora merged = merge_loras(opened_.merge_method, inputs, merge_options(opened_));
    spdlog::info("merged subject and style by '{}': {} layers", opened_.merge_method,
                 merged.summary());
    entries_.push_back({std::move(merged.weights), 1.0});
    switches_ = std::move(merged.switches);
  }
  for (size_t i = num_merged; i < sources.size(); ++i)
    entries_.push_back(stacked(sources[i].file->weights, sources[i].use, layers));
}

bool AdapterStack::acts_on(const std::string& component) const {
  return std::ranges::any_of(
      entries_, [&](const StackedLora& entry) { return entry.weights.num_layers(component) > 0; });
}

int64_t AdapterStack::bytes() const {
  int64_t bytes = 0;
  for (const StackedLora& entry : entries_) bytes += factor_bytes(entry.weights);
  for (const auto& [role, use, file] : opened_.sources) bytes += factor_bytes(file->weights);
  return bytes;
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

std::vector<LoraRecord> OpenedAdapters::records() const {
  std::vector<LoraRecord> records;
  for (const auto& [role, use, file] : sources) {
    const LoraWeights& weights = file->weights;
    const LoraDocumentation documentation = read_lora_documentation(weights.metadata);
    records.push_back({.file = use.file,
                       .role = std::string(role_name(role)),
                       .weight = use.weight,
                       .blocks = block_strengths_text(use.blocks),
                       .sha256 = file->sha256,
                       .key_family = weights.key_family,
                       .num_layers = static_cast<int64_t>(weights.layers.size()),
                       .num_skipped_keys = static_cast<int64_t>(weights.skipped_keys.size()),
                       .trigger_words = documentation.trigger_words,
                       .licence = documentation.licence});
  }
  return records;
}

}  // namespace molar
