#include "lora_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "molar/adapters/lora_summary.h"
#include "molar/core/error.h"
#include "molar/io/file.h"
#include "molar/io/json_order.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPickleExtensions[] = {".ckpt", ".pt", ".pth", ".bin"};
constexpr std::string_view kComponents[] = {"unet", "text_encoder_2", "text_encoder"};

/// peft's initialisations that subtract something from the base weights: the file fits only those.
constexpr std::string_view kBaseChangingInits[] = {"pissa", "olora",   "corda",
                                                   "loftq", "lora_ga", "mica"};

/// peft's methods whose factors we read. A config without the field is of an old LoRA.
const std::vector<Json> kPeftTypes = {"LORA", "LOHA", "LOKR"};

/// What a safetensors file without LoRA keys can be: (a key contains this, so it is that).
constexpr std::pair<std::string_view, std::string_view> kOtherFiles[] = {
    {"model.diffusion_model.", "a model checkpoint: give it with --model"},
    {"first_stage_model.", "a model checkpoint: give it with --model"},
    {"cond_stage_model.", "a model checkpoint: give it with --model"},
    {"conditioner.embedders.", "a model checkpoint: give it with --model"},
    {"down_blocks.", "one component of a model: give the model's folder with --model"},
    {"text_model.encoder.", "one component of a model: give the model's folder with --model"},
    {"encoder.layers.", "one component of a model: give the model's folder with --model"},
    {"decoder.up", "one component of a model: give it with --vae"},
    {".softmoe.", "a set of gates: give its folder with --mole"},
    {"input_k.", "a hypernetwork: give it with --hypernet"},
    {"emb_params", "a textual inversion, which molar does not read"},
};

bool is_pickle(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::ranges::find(kPickleExtensions, extension) != std::end(kPickleExtensions);
}

[[noreturn]] void refuse_pickle(const fs::path& path) {
  throw FileError(
      fmt::format("'{}' is a Python pickle, which can run code: load it in Python where you trust "
                  "it and save the tensors with "
                  "safetensors.torch.save_file",
                  path.string()));
}

/// The component that a PEFT folder was saved from, by what peft wrote into the config or by its
/// name.
std::string guess_component(const Json& config, const fs::path& folder) {
  constexpr std::pair<std::string_view, std::string_view> kClasses[] = {
      {"UNet2DConditionModel", "unet"},
      {"CLIPTextModelWithProjection", "text_encoder_2"},
      {"CLIPTextModel", "text_encoder"},
  };
  const auto mapping = config.find("auto_mapping");
  if (mapping != config.end() && mapping->is_object()) {
    const Json name = mapping->value("base_model_class", Json());
    for (const auto& [class_name, component] : kClasses)
      if (name == class_name) return std::string(component);
  }
  const std::string folder_name = folder.filename().string();
  for (const std::string_view component : kComponents)
    if (folder_name.starts_with(component)) return std::string(component);
  return "";
}

/// An adapter_model.safetensors with the adapter_config.json beside it, without which its scale is
/// unknown.
LoraSource open_peft_file(const fs::path& file, std::string component) {
  constexpr uint64_t kMaxConfigBytes = 16ULL << 20;
  const fs::path config_path = file.parent_path() / "adapter_config.json";
  const std::string source = fmt::format("'{}'", config_path.string());
  const std::string text = read_file(config_path, kMaxConfigBytes);
  const Json config = parse_json(text, source);
  if (!config.is_object()) throw FileError(fmt::format("{} is no JSON object", source));
  if (component.empty()) component = guess_component(config, fs::absolute(file).parent_path());
  const auto key_order = [&](const std::string& name) { return keys_in_file_order(text, name); };
  return {SafetensorsFile::open(file), component, {{"", PeftScaling(config, key_order, source)}}};
}

/// diffusers joins one LoraConfig per component: {"unet.r": 4, "unet.lora_alpha": 8,
/// "text_encoder.r": ...}.
std::map<std::string, PeftScaling> scalings_from_metadata(const SafetensorsFile& file) {
  const auto found = file.metadata().find("lora_adapter_metadata");
  if (found == file.metadata().end()) return {};
  const std::string source = fmt::format("'{}' (lora_adapter_metadata)", file.path().string());
  const Json joined = parse_json(found->second, source);
  if (!joined.is_object()) throw FileError(fmt::format("{} is no JSON object", source));
  std::map<std::string, Json> configs;
  for (const auto& [key, value] : joined.items()) {
    const size_t dot = key.find('.');
    const std::string component = key.substr(0, dot);
    if (dot == std::string::npos ||
        std::ranges::find(kComponents, component) == std::end(kComponents))
      continue;  // another model's
    configs[component][key.substr(dot + 1)] = value;
  }
  std::map<std::string, PeftScaling> scalings;
  for (const auto& [component, config] : configs) {
    const auto key_order = [&](const std::string& name) {
      return keys_in_file_order(found->second, component + "." + name);
    };
    scalings.emplace(component,
                     PeftScaling(config, key_order, fmt::format("{}, {}", source, component)));
  }
  return scalings;
}

LoraSource open_file(const fs::path& path) {
  if (is_pickle(path)) refuse_pickle(path);
  if (path.filename() == "adapter_model.safetensors") return open_peft_file(path, "");
  SafetensorsFile file = SafetensorsFile::open(path);
  auto scalings = scalings_from_metadata(file);
  return {std::move(file), "", std::move(scalings)};
}

std::vector<LoraSource> open_folder(const fs::path& folder) {
  const auto has = [](const fs::path& place, const char* name) { return fs::exists(place / name); };
  if (has(folder, "adapter_model.safetensors"))
    return {open_peft_file(folder / "adapter_model.safetensors", "")};
  if (has(folder, "pytorch_lora_weights.safetensors"))
    return {open_file(folder / "pytorch_lora_weights.safetensors")};
  std::vector<LoraSource> sources;
  for (const std::string_view component : kComponents) {
    const fs::path part = folder / component;
    if (has(part, "adapter_model.safetensors"))
      sources.push_back(open_peft_file(part / "adapter_model.safetensors", std::string(component)));
  }
  if (!sources.empty()) return sources;
  for (const char* pickle : {"adapter_model.bin", "pytorch_lora_weights.bin"})
    if (has(folder, pickle)) refuse_pickle(folder / pickle);
  throw FileError(
      fmt::format("the folder '{}' holds no LoRA: wanted adapter_model.safetensors (PEFT; also "
                  "under unet/, text_encoder/, "
                  "text_encoder_2/) or pytorch_lora_weights.safetensors (diffusers)",
                  folder.string()));
}

/// A pattern of peft that is only a module's name, as a name: "\." read as ".".
std::optional<std::string> plain_name(std::string_view pattern) {
  std::string name;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size() && pattern[i + 1] == '.') continue;
    const auto c = static_cast<unsigned char>(pattern[i]);
    if (!std::isalnum(c) && c != '.' && c != '_' && c != '-') return std::nullopt;
    name.push_back(pattern[i]);
  }
  return name.empty() ? std::nullopt : std::optional<std::string>(name);
}

/// Throws FileError for initialisations of which the file holds only a part.
void check_initialisation(const JsonConfig& config) {
  constexpr const char* kKey = "init_lora_weights";
  if (!config.has(kKey) || !config.json().at(kKey).is_string()) return;
  const std::string init = config.get<std::string>(kKey);
  for (const std::string_view name : kBaseChangingInits)
    if (init.starts_with(name))
      throw FileError(fmt::format(
          "{}: init_lora_weights '{}' changes the base weights too: save it with peft's "
          "path_initial_model_for_weight_conversion, which makes a plain LoRA of it",
          config.source(), init));
}

/// Where a LoRA came from, which layers it was made for (its keys say so), and how it was trained.
void ignore_settings_without_effect(const JsonConfig& config) {
  config.ignore({"auto_mapping",
                 "base_model_name_or_path",
                 "corda_config",
                 "decompose_both",
                 "decompose_factor",
                 "ensure_weight_tying",
                 "ephemeral_gpu_offload",
                 "eva_config",
                 "exclude_modules",
                 "fan_in_fan_out",
                 "inference_mode",
                 "init_weights",
                 "layers_pattern",
                 "layers_to_transform",
                 "loftq_config",
                 "lora_dropout",
                 "lora_ga_config",
                 "megatron_config",
                 "megatron_core",
                 "merge_weights",
                 "module_dropout",
                 "peft_version",
                 "qalora_group_size",
                 "rank_dropout",
                 "rank_dropout_scale",
                 "revision",
                 "runtime_config",
                 "target_modules",
                 "task_type",
                 "use_effective_conv2d"});
}

}  // namespace

PeftScaling::PeftScaling(const Json& config, const KeyOrder& key_order, const std::string& source) {
  const JsonConfig fields(config, source);
  fields.require_one_of("peft_type", kPeftTypes);
  if (fields.get_or<bool>("use_dora", false))
    throw FileError(fmt::format(
        "{}: DoRA (use_dora), which molar cannot apply: merge it with the tool that trained "
        "it and extract a plain LoRA from the result",
        source));
  check_initialisation(fields);
  fields.require_one_of("bias", {"none"});
  for (const char* key : {"lora_bias", "use_qalora", "use_bdlora"})
    fields.require_one_of(key, {false});
  for (const char* key : {"modules_to_save", "target_parameters"})
    fields.require_one_of(key, {Json::array()});
  rank_stabilised_ = fields.get_or<bool>("use_rslora", false);
  alpha_ = fields.get_optional<double>("lora_alpha");
  if (!alpha_) alpha_ = fields.get_optional<double>("alpha");  // peft's LoHaConfig and LoKrConfig
  alpha_pattern_ = read_patterns(fields, "alpha_pattern", key_order);
  rank_ = fields.get_optional<double>("r");
  rank_pattern_ = read_patterns(fields, "rank_pattern", key_order);
  ignore_settings_without_effect(fields);
  fields.refuse_unread_keys();
}

PeftScaling::Patterns PeftScaling::read_patterns(const JsonConfig& config, const char* key,
                                                 const KeyOrder& key_order) {
  Patterns patterns;
  if (!config.has(key)) return patterns;
  const JsonConfig values(config.json().at(key), fmt::format("{}, {}", config.source(), key));
  for (const std::string& text : key_order(key)) {
    std::string_view pattern = text;
    const bool whole = pattern.starts_with('^');
    if (whole) pattern.remove_prefix(1);
    if (pattern.ends_with('$')) pattern.remove_suffix(1);
    auto name = plain_name(pattern);
    if (!name)
      throw FileError(
          fmt::format("{}: {} '{}' is a regular expression, molar reads module names only",
                      config.source(), key, text));
    patterns.push_back({std::move(*name), whole, values.get<double>(text)});
  }
  return patterns;
}

std::optional<double> PeftScaling::value_for(const std::string& module, const Patterns& patterns,
                                             std::optional<double> otherwise) {
  for (const auto& [name, whole, value] : patterns)
    if (module == name || (!whole && module.ends_with("." + name))) return value;
  return otherwise;
}

double PeftScaling::scale(const std::string& module, std::optional<int64_t> rank) const {
  const std::optional<double> alpha = value_for(module, alpha_pattern_, alpha_);
  const std::optional<double> r =
      rank ? static_cast<double>(*rank) : value_for(module, rank_pattern_, rank_);
  if (!alpha || !r) return 1.0;
  return rank_stabilised_ ? *alpha / std::sqrt(*r) : *alpha / *r;
}

std::vector<LoraSource> open_lora_sources(const fs::path& path) {
  if (!fs::exists(path))
    throw FileError(fmt::format("'{}' does not exist{}", path.string(), path_suggestion(path)));
  if (fs::is_directory(path)) return open_folder(path);
  std::vector<LoraSource> sources;
  sources.push_back(open_file(path));
  return sources;
}

double configured_scale(const LoraSource& source, const std::string& component,
                        const std::string& module, std::optional<int64_t> rank) {
  auto found = source.scalings.find(component);
  if (found == source.scalings.end()) found = source.scalings.find("");
  return found == source.scalings.end() ? 1.0 : found->second.scale(module, rank);
}

void require_lora_keys(const std::vector<LoraSource>& sources) {
  if (std::ranges::any_of(sources, [](const LoraSource& source) { return is_lora(source.file); }))
    return;
  const SafetensorsFile& file = sources.front().file;
  std::vector<std::string> first;
  for (const auto& [key, entry] : file.entries()) {
    for (const auto& [part, kind] : kOtherFiles)
      if (key.find(part) != std::string::npos)
        throw FileError(fmt::format("'{}' is no LoRA but {}", file.path().string(), kind));
    if (first.size() < 3) first.push_back(fmt::format("'{}'", key));
  }
  throw FileError(fmt::format("'{}' is no LoRA: none of its {} keys is a LoRA's{}{}",
                              file.path().string(), file.entries().size(),
                              first.empty() ? "" : " (first: ",
                              first.empty() ? "" : fmt::format("{})", fmt::join(first, ", "))));
}

}  // namespace molar
