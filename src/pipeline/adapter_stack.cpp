#include "molar/pipeline/adapter_stack.h"

#include <spdlog/spdlog.h>

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

}  // namespace

AdapterStack::AdapterStack(const AdapterRequest& request, const ModelLayers& layers)
    : family_(layers.family) {
  const auto load = [&](LoraRole role, const LoraUse& use) {
    LoraWeights weights = load_lora(use.file, layers, {.allow_partial = request.allow_partial});
    spdlog::info("{} {}: {} layers ({}), strength {}", role_name(role), use.file.string(),
                 weights.layers.size(), weights.key_family, use.weight);
    sources_.push_back({std::string(role_name(role)), use, std::move(weights)});
  };
  if (request.subject) load(LoraRole::kSubject, *request.subject);
  if (request.style) load(LoraRole::kStyle, *request.style);
  if (request.subject && request.style) {
    merge_method_ = resolve_merge_method(request.merge);
    spdlog::info("merging subject and style by '{}'", merge_method_);
    std::vector<MergeInput> inputs;
    inputs.push_back({LoraRole::kSubject, sources_[0].weights, request.subject->weight});
    inputs.push_back({LoraRole::kStyle, sources_[1].weights, request.style->weight});
    entries_.push_back({merge_loras(merge_method_, inputs), 1.0});
  } else if (!sources_.empty()) {
    entries_.push_back({sources_[0].weights, sources_[0].use.weight});
  }
  for (const LoraUse& use : request.loras) {
    load(LoraRole::kOther, use);
    entries_.push_back({sources_.back().weights, use.weight});
  }
}

std::unique_ptr<LoraFuser> AdapterStack::fuse_into(const std::string& component, LayerIndex layers,
                                                   WeightSource source) const {
  std::vector<LoraWeights> parts;
  std::vector<double> strengths;
  for (const Entry& entry : entries_) {
    LoraWeights part = part_of(entry.weights, component);
    if (part.layers.empty()) continue;
    parts.push_back(std::move(part));
    strengths.push_back(entry.strength);
  }
  if (parts.empty()) return nullptr;
  std::vector<WeightedLora> weighted;
  for (size_t i = 0; i < parts.size(); ++i) weighted.push_back({&parts[i], strengths[i]});
  auto fuser = std::make_unique<LoraFuser>(ModelLayers{family_, {{component, std::move(layers)}}},
                                           std::move(source));
  fuser->attach(weighted);
  return fuser;
}

std::vector<LoraRecord> AdapterStack::records() const {
  std::vector<LoraRecord> records;
  for (const Source& source : sources_) {
    const LoraDocumentation documentation = read_lora_documentation(source.weights.metadata);
    records.push_back({.file = source.use.file,
                       .role = source.role,
                       .weight = source.use.weight,
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
