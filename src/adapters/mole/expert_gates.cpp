#include "molar/adapters/mole/expert_gates.h"

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "molar/adapters/lora_key_map.h"
#include "molar/core/error.h"
#include "molar/core/finite.h"

namespace molar {
namespace {

constexpr std::string_view kPrefix = "moe_", kMiddle = ".softmoe.", kLocal = "Phi_1",
                           kGlobalEnd = "_scale";
constexpr const char* kOrderEntry = "molar.experts";

/// Letters, digits, '-' and '_': the name becomes a file's.
bool is_expert_name(std::string_view name) {
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
}

/// A key taken apart without a model: moe_<module>.softmoe.<gate>.<weight or bias>
struct GateKey {
  std::string_view module;  ///< as a kohya LoRA has it: "lora_unet_..."
  std::string_view expert;  ///< empty: Phi_1, of all experts
  std::string_view rest;    ///< everything after ".softmoe."
};

std::optional<GateKey> split_gate_key(std::string_view key) {
  if (!key.starts_with(kPrefix)) return std::nullopt;
  const size_t middle = key.find(kMiddle);
  if (middle == std::string_view::npos) return std::nullopt;
  GateKey parsed{.module = key.substr(kPrefix.size(), middle - kPrefix.size()),
                 .expert = {},
                 .rest = key.substr(middle + kMiddle.size())};
  const size_t dot = parsed.rest.find('.');
  const std::string_view gate = parsed.rest.substr(0, dot);
  if (dot == std::string_view::npos) return std::nullopt;
  if (const auto part = parsed.rest.substr(dot); part != ".weight" && part != ".bias")
    return std::nullopt;
  if (gate == kLocal) return parsed;
  if (!gate.ends_with(kGlobalEnd) || gate.size() == kGlobalEnd.size()) return std::nullopt;
  parsed.expert = gate.substr(0, gate.size() - kGlobalEnd.size());
  return is_expert_name(parsed.expert) ? std::optional(parsed) : std::nullopt;
}

/// "face,hand" -> {"face", "hand"}
std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names(1);
  for (const char c : text)
    if (c == ',')
      names.emplace_back();
    else
      names.back() += c;
  return names;
}

/// The tensors of one layer as the file holds them: rest of the key -> whole key.
using LayerKeys = std::map<std::string, std::string, std::less<>>;

/// Every key under the layer that it belongs to. Throws FitError for a key without one.
std::map<LayerName, LayerKeys> keys_by_layer(const SafetensorsFile& file,
                                             const ModelLayers& layers) {
  const LoraModuleMap modules(layers);
  std::map<LayerName, LayerKeys> by_layer;
  for (const auto& [key, entry] : file.entries()) {
    const auto parsed = split_gate_key(key);
    if (!parsed)
      throw FitError(
          fmt::format("gates '{}': tensor '{}' is unknown; wanted moe_lora_unet_PATH.softmoe. and "
                      "Phi_1 or NAME_scale with .weight and .bias",
                      file.path().string(), key));
    const auto hit = modules.find({parsed->module, &lora_suffixes().front()});
    if (!hit || hit->name.component != "unet")
      throw FitError(
          fmt::format("gates '{}': tensor '{}' names no layer of this {} model's UNet; are "
                      "they for another model?",
                      file.path().string(), key, family_name(layers.family)));
    if (!by_layer[hit->name].emplace(parsed->rest, key).second)
      throw FileError(fmt::format("gates '{}': '{}' and '{}' stand for the same gate",
                                  file.path().string(), key,
                                  by_layer[hit->name].find(parsed->rest)->second));
  }
  return by_layer;
}

/// Takes the tensors of one layer, each of which must be there and of the shape wanted.
class LayerReader {
 public:
  LayerReader(const SafetensorsFile& file, const LayerName& layer, const LayerKeys& keys)
      : file_(file), layer_(layer), keys_(keys) {}

  Tensor take(const std::string& rest, const std::vector<int64_t>& wanted) const {
    const auto found = keys_.find(rest);
    if (found == keys_.end())
      throw FitError(
          fmt::format("gates '{}': tensor '{}' is missing; every layer has Phi_1 and a "
                      "NAME_scale for each expert, with .weight and .bias",
                      file_.path().string(), gate_tensor_name(layer_, rest)));
    const std::string& key = found->second;
    const Tensor stored = file_.tensor(key);
    if (!at::isFloatingType(stored.scalar_type()))
      throw FileError(fmt::format("gates '{}': tensor '{}' is {}, wanted a floating-point type",
                                  file_.path().string(), key, dtype_name(stored.scalar_type())));
    if (stored.sizes() != at::IntArrayRef(wanted))
      throw FitError(fmt::format("gates '{}': tensor '{}' is {}, wanted {} for layer '{}'",
                                 file_.path().string(), key, shape_string(stored.sizes()),
                                 shape_string(wanted), layer_.module));
    if (!is_finite(stored))
      throw FileError(
          fmt::format("gates '{}': tensor '{}' holds NaN or infinity", file_.path().string(), key));
    return stored.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  }

 private:
  const SafetensorsFile& file_;
  const LayerName& layer_;
  const LayerKeys& keys_;
};

LayerGates read_layer(const LayerReader& reader, const std::vector<std::string>& experts,
                      int64_t in, int64_t out) {
  const auto count = static_cast<int64_t>(experts.size());
  LayerGates gates{.local_weight = reader.take("Phi_1.weight", {count, in}),
                   .local_bias = reader.take("Phi_1.bias", {count}),
                   .global_weight = {},
                   .global_bias = {}};
  std::vector<Tensor> weights, biases;
  for (const std::string& expert : experts) {
    weights.push_back(reader.take(expert + "_scale.weight", {1, out}));
    biases.push_back(reader.take(expert + "_scale.bias", {1}));
  }
  gates.global_weight = at::cat(weights);
  gates.global_bias = at::cat(biases);
  return gates;
}

}  // namespace

bool is_expert_gates(const SafetensorsFile& file) {
  return std::ranges::any_of(
      file.entries(), [](const auto& entry) { return split_gate_key(entry.first).has_value(); });
}

std::string gate_tensor_name(const LayerName& layer, const std::string& rest) {
  return fmt::format("{}lora_unet_{}{}{}", kPrefix, flatten_module_name(layer.module), kMiddle,
                     rest);
}

std::vector<std::string> gate_experts(const SafetensorsFile& file) {
  std::set<std::string> names;
  for (const auto& [key, entry] : file.entries())
    if (const auto parsed = split_gate_key(key); parsed && !parsed->expert.empty())
      names.emplace(parsed->expert);
  if (names.empty())
    throw FileError(
        fmt::format("'{}' is no gate file of experts: wanted tensors "
                    "moe_lora_unet_PATH.softmoe.NAME_scale.weight",
                    file.path().string()));
  std::vector<std::string> order(names.begin(), names.end());
  const auto entry = file.metadata().find(kOrderEntry);
  if (entry == file.metadata().end()) return order;
  std::vector<std::string> told = split_names(entry->second);
  std::vector<std::string> sorted = told;
  std::ranges::sort(sorted);
  if (sorted != order)
    throw FileError(fmt::format("gates '{}': metadata '{}' is '{}', but the tensors are of {}",
                                file.path().string(), kOrderEntry, entry->second,
                                fmt::join(order, ", ")));
  return told;
}

ExpertGates load_expert_gates(const std::filesystem::path& path, const ModelLayers& layers) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  ExpertGates gates{.path = path, .experts = gate_experts(file), .layers = {}};
  for (const auto& [layer, keys] : keys_by_layer(file, layers)) {
    const auto shape = layers.components.at(layer.component).at(layer.module)->weight().sizes();
    if (shape.size() == 4 && shape[2] * shape[3] != 1)
      throw FitError(
          fmt::format("gates '{}': '{}' is for a {}x{} convolution; experts act on linear layers "
                      "and 1x1 convolutions",
                      path.string(), keys.begin()->second, shape[2], shape[3]));
    const LayerReader reader(file, layer, keys);
    gates.layers.emplace(layer, read_layer(reader, gates.experts, shape[1], shape[0]));
  }
  return gates;
}

ExpertGatesSummary describe_expert_gates(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  ExpertGatesSummary summary{
      .path = path, .experts = gate_experts(file), .metadata = file.metadata()};
  std::set<std::string_view> modules;
  std::set<std::string> dtypes;
  for (const auto& [key, entry] : file.entries()) {
    if (const auto parsed = split_gate_key(key)) modules.insert(parsed->module);
    dtypes.insert(dtype_name(entry.dtype));
    summary.num_parameters += c10::multiply_integers(entry.shape);
  }
  summary.num_keys = static_cast<int64_t>(file.entries().size());
  summary.num_layers = static_cast<int64_t>(modules.size());
  summary.dtype = fmt::format("{}", fmt::join(dtypes, "+"));
  return summary;
}

}  // namespace molar
