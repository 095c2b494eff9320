#include "molar/adapters/lora_writer.h"

#include <ATen/ops/scalar_tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

#include "molar/adapters/lora_key_map.h"
#include "molar/core/error.h"
#include "molar/io/json_config.h"

namespace molar {
namespace {

constexpr std::pair<std::string_view, LoraFormat> kFormats[] = {
    {"kohya", LoraFormat::kKohya}, {"diffusers", LoraFormat::kDiffusers}};

const LowRankFactors& factors_of(const LoraLayer& layer) {
  const auto* factors = std::get_if<LowRankFactors>(&layer.factors);
  TORCH_CHECK(factors != nullptr && !factors->mid.defined(),
              "internal: only plain low-rank layers are written");
  return *factors;
}

std::string kohya_prefix(const std::string& component, ModelFamily family) {
  if (component == "unet") return "lora_unet_";
  if (component == "text_encoder_2") return "lora_te2_";
  return family == ModelFamily::kSdxl ? "lora_te1_" : "lora_te_";
}

StateDict kohya_tensors(const LoraWeights& lora, ModelFamily family) {
  StateDict tensors;
  for (const auto& [name, layer] : lora.layers) {
    const LowRankFactors& factors = factors_of(layer);
    const std::string key = kohya_prefix(name.component, family) + flatten_module_name(name.module);
    tensors[key + ".lora_down.weight"] = factors.down;
    tensors[key + ".lora_up.weight"] = factors.up;
    const double alpha = layer.scale * static_cast<double>(layer.rank());
    tensors[key + ".alpha"] = at::scalar_tensor(alpha, factors.down.options().device(at::kCPU));
  }
  return tensors;
}

/// One LoraConfig of peft, as far as a reader needs it.
struct PeftConfig {
  int64_t rank = 0;
  double scale = 1.0;
  std::set<std::string> target_modules;
};

/// "encoder.layers.0.self_attn.q_proj" -> "q_proj", "to_out.0" as it is.
std::string last_name(const std::string& module) {
  size_t dot = module.rfind('.');
  if (dot != std::string::npos &&
      std::all_of(module.begin() + static_cast<std::ptrdiff_t>(dot) + 1, module.end(),
                  [](unsigned char c) { return std::isdigit(c) != 0; }))
    dot = module.rfind('.', dot - 1);
  return dot == std::string::npos ? module : module.substr(dot + 1);
}

/// One config per component; nullopt where the layers of one differ in rank or scale.
std::optional<std::map<std::string, PeftConfig>> peft_configs(const LoraWeights& lora) {
  std::map<std::string, PeftConfig> configs;
  for (const auto& [name, layer] : lora.layers) {
    const auto [config, is_new] = configs.try_emplace(name.component);
    if (is_new) {
      config->second.rank = layer.rank();
      config->second.scale = layer.scale;
    } else if (config->second.rank != layer.rank() || config->second.scale != layer.scale) {
      return std::nullopt;
    }
    // Text encoders' full names differ between versions of transformers ("text_model.").
    config->second.target_modules.insert(name.component == "unet" ? name.module
                                                                  : last_name(name.module));
  }
  return configs;
}

LoraFileContent diffusers_content(const LoraWeights& lora) {
  LoraFileContent content;
  const auto configs = peft_configs(lora);
  for (const auto& [name, layer] : lora.layers) {
    const LowRankFactors& factors = factors_of(layer);
    const std::string key = name.component + "." + name.module;
    content.tensors[key + ".lora_A.weight"] = factors.down;
    content.tensors[key + ".lora_B.weight"] = configs ? factors.up : factors.up.mul(layer.scale);
  }
  content.metadata["format"] = "pt";
  if (!configs) return content;
  Json joined = Json::object();
  for (const auto& [component, config] : *configs) {
    joined[component + ".r"] = config.rank;
    joined[component + ".lora_alpha"] = config.scale * static_cast<double>(config.rank);
    joined[component + ".target_modules"] = config.target_modules;
    joined[component + ".peft_type"] = "LORA";
  }
  content.metadata["lora_adapter_metadata"] = joined.dump();
  return content;
}

}  // namespace

std::string_view lora_format_name(LoraFormat format) {
  for (const auto& [name, known] : kFormats)
    if (known == format) return name;
  throw Error("internal: a LoRA format without a name");
}

LoraFormat parse_lora_format(std::string_view name) {
  for (const auto& [known, format] : kFormats)
    if (known == name) return format;
  throw ConfigError(fmt::format("--format '{}': wanted kohya or diffusers", name));
}

LoraFileContent spell_lora(const LoraWeights& lora, ModelFamily family, LoraFormat format,
                           const std::map<std::string, std::string>& metadata) {
  LoraFileContent content = format == LoraFormat::kKohya
                                ? LoraFileContent{kohya_tensors(lora, family), {}}
                                : diffusers_content(lora);
  content.metadata.insert(metadata.begin(), metadata.end());
  return content;
}

}  // namespace molar
