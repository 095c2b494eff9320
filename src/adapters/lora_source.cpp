#include "lora_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "molar/adapters/lora_summary.h"
#include "molar/core/error.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPickleExtensions[] = {".ckpt", ".pt", ".pth", ".bin"};
constexpr std::string_view kComponents[] = {"unet", "text_encoder_2", "text_encoder"};

/// peft's initialisations that subtract something from the base weights: the file fits only those.
constexpr std::string_view kBaseChangingInits[] = {"pissa", "olora",   "corda",
                                                   "loftq", "lora_ga", "mica"};

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
  const fs::path config_path = file.parent_path() / "adapter_config.json";
  const Json config = read_json_file(config_path);
  const std::string source = fmt::format("'{}'", config_path.string());
  if (!config.is_object()) throw FileError(fmt::format("{} is no JSON object", source));
  if (component.empty()) component = guess_component(config, fs::absolute(file).parent_path());
  return {SafetensorsFile::open(file), component, {{"", PeftScaling(config, source)}}};
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
    if (dot != std::string::npos) configs[key.substr(0, dot)][key.substr(dot + 1)] = value;
  }
  std::map<std::string, PeftScaling> scalings;
  for (const auto& [component, config] : configs)
    scalings.emplace(component, PeftScaling(config, fmt::format("{}, {}", source, component)));
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

/// A pattern of peft that is only a module's name, as a name: "^" and "$" dropped, "\." read as
/// ".".
std::optional<std::string> plain_name(std::string_view pattern) {
  if (pattern.starts_with('^')) pattern.remove_prefix(1);
  if (pattern.ends_with('$')) pattern.remove_suffix(1);
  std::string name;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size() && pattern[i + 1] == '.') continue;
    const auto c = static_cast<unsigned char>(pattern[i]);
    if (!std::isalnum(c) && c != '.' && c != '_' && c != '-') return std::nullopt;
    name.push_back(pattern[i]);
  }
  return name.empty() ? std::nullopt : std::optional<std::string>(name);
}

/// peft's *_pattern: module names (or their ends) and the value that they have.
std::map<std::string, double> read_pattern(const Json& config, const char* key,
                                           const std::string& source) {
  std::map<std::string, double> pattern;
  if (!config.contains(key) || config[key].is_null()) return pattern;
  const Json& patterns = config[key];
  if (!patterns.is_object()) throw FileError(fmt::format("{}: {} is no JSON object", source, key));
  const JsonConfig values(patterns, fmt::format("{}, {}", source, key));
  for (const auto& [text, value] : patterns.items()) {
    const auto name = plain_name(text);
    if (!name)
      throw FileError(fmt::format(
          "{}: {} '{}' is a regular expression, molar reads module names only", source, key, text));
    pattern.insert_or_assign(*name, values.get<double>(text));
  }
  return pattern;
}

/// A pattern is a module's name or the end of one, from a dot on; the longest that fits is meant.
std::optional<double> value_for(const std::string& module,
                                const std::map<std::string, double>& pattern,
                                std::optional<double> otherwise) {
  size_t longest = 0;
  for (const auto& [name, value] : pattern) {
    if (name.size() < longest || (module != name && !module.ends_with("." + name))) continue;
    otherwise = value;
    longest = name.size();
  }
  return otherwise;
}

}  // namespace

PeftScaling::PeftScaling(const Json& config, const std::string& source) {
  const JsonConfig fields(config, source);
  if (fields.get_or<bool>("use_dora", false))
    throw FileError(fmt::format(
        "{}: DoRA (use_dora), which molar cannot apply: merge it with the tool that trained "
        "it and extract a plain LoRA from the result",
        source));
  if (config.contains("init_lora_weights") && config["init_lora_weights"].is_string()) {
    const std::string init = fields.get<std::string>("init_lora_weights");
    for (const std::string_view name : kBaseChangingInits)
      if (init.starts_with(name))
        throw FileError(fmt::format(
            "{}: init_lora_weights '{}' changes the base weights too: save it with peft's "
            "path_initial_model_for_weight_conversion, which makes a plain LoRA of it",
            source, init));
  }
  rank_stabilised_ = fields.get_or<bool>("use_rslora", false);
  alpha_ = fields.get_optional<double>("lora_alpha");
  if (!alpha_) alpha_ = fields.get_optional<double>("alpha");  // peft's LoHaConfig and LoKrConfig
  alpha_pattern_ = read_pattern(config, "alpha_pattern", source);
  rank_ = fields.get_optional<double>("r");
  rank_pattern_ = read_pattern(config, "rank_pattern", source);
}

double PeftScaling::scale(const std::string& module, std::optional<int64_t> rank) const {
  const std::optional<double> alpha = value_for(module, alpha_pattern_, alpha_);
  const std::optional<double> r =
      rank ? static_cast<double>(*rank) : value_for(module, rank_pattern_, rank_);
  if (!alpha || !r) return 1.0;
  return rank_stabilised_ ? *alpha / std::sqrt(*r) : *alpha / *r;
}

std::vector<LoraSource> open_lora_sources(const fs::path& path) {
  if (!fs::exists(path)) throw FileError(fmt::format("'{}' does not exist", path.string()));
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
