#include "diffusers_folder.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <span>

#include "checkpoint_parts.h"
#include "diffusers_folder_weights.h"
#include "molar/core/error.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

struct Part {
  std::string_view name;  ///< folder and key of model_index.json
  /// The class that we draw with and another name of it; empty: any (schedulers).
  std::array<std::string_view, 2> classes;
  bool only_sdxl = false;
};
constexpr Part kParts[] = {
    {"unet", {"UNet2DConditionModel"}},
    {"vae", {"AutoencoderKL"}},
    {"text_encoder", {"CLIPTextModel"}},
    {"text_encoder_2", {"CLIPTextModelWithProjection"}, true},
    {"scheduler", {}},
    {"tokenizer", {"CLIPTokenizer", "CLIPTokenizerFast"}},
    {"tokenizer_2", {"CLIPTokenizer", "CLIPTokenizerFast"}, true},
};
/// Parts of diffusers' pipelines that do not change the picture that we draw.
constexpr std::string_view kOptionalParts[] = {"safety_checker", "feature_extractor",
                                               "image_encoder", "watermark"};
/// Pipelines that are these parts and nothing else.
constexpr std::string_view kPipelines[] = {
    "StableDiffusionPipeline",        "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline", "StableDiffusionInpaintPipelineLegacy",
    "LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline",
};
constexpr std::string_view kSdxlPipelines[] = {
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
};

bool contains(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

const Part& part_named(const std::string& name) {
  return *std::ranges::find(kParts, name, &Part::name);
}

/// Says what the folder seems to be instead of a model.
[[noreturn]] void refuse_without_index(const fs::path& folder) {
  const std::string where = folder.string();
  if (fs::exists(folder / "adapter_config.json"))
    throw FileError(fmt::format(
        "{}: a PEFT LoRA folder, not a model; give it with --lora, --subject or --style, and the "
        "model that it was trained on with -m",
        where));
  if (fs::exists(folder / "config.json"))
    throw FileError(fmt::format(
        "{}: one component of a model (config.json, no model_index.json); give the folder above it",
        where));
  if (fs::is_directory(folder / "snapshots"))
    throw FileError(fmt::format(
        "{}: a download cache of several versions; give one of the folders under its snapshots/",
        where));
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path().string());
  std::ranges::sort(files);
  throw FileError(fmt::format(
      "{}: no model_index.json; wanted a diffusers folder or a .safetensors file{}", where,
      files.empty() ? "" : fmt::format(" (the folder holds {})", first_names(files))));
}

/// model_index.json's entry for a part: is it there (not null, not [null, null])?
bool index_has(const Json& index, std::string_view name) {
  const auto it = index.find(name);
  if (it == index.end() || it->is_null()) return false;
  return !(it->is_array() && it->size() == 2 && (*it)[1].is_null());
}

/// Throws FileError unless the pipeline is one that we draw with. Returns whether it is SDXL's.
bool check_pipeline(const Json& index, const std::string& source) {
  const std::string pipeline = JsonConfig(index, source).get<std::string>("_class_name");
  const bool sdxl = contains(kSdxlPipelines, pipeline);
  if (!sdxl && !contains(kPipelines, pipeline))
    throw FileError(fmt::format(
        "{}: a {}; wanted a Stable Diffusion 1.x, 2.x or XL model (StableDiffusionPipeline or "
        "StableDiffusionXLPipeline)",
        source, pipeline));
  if (sdxl && !index_has(index, "text_encoder") && index_has(index, "text_encoder_2"))
    throw FileError(fmt::format(
        "{}: the SDXL refiner (no first text encoder), which is not supported; give the SDXL base "
        "model",
        source));
  for (const auto& [name, entry] : index.items()) {
    const bool known = contains(kOptionalParts, name) ||
                       std::ranges::find(kParts, name, &Part::name) != std::end(kParts);
    if (entry.is_array() && !known && index_has(index, name))
      throw FileError(
          fmt::format("{}: the model has a part '{}' that is not supported", source, name));
  }
  return sdxl;
}

/// The class that the index gives the part. Throws FileError where a required part is missing or of
/// another class than ours.
std::string check_part(const fs::path& folder, const Json& index, const Part& part,
                       const std::string& source) {
  const auto entry = index.find(part.name);
  if (!index_has(index, part.name))
    throw FileError(
        fmt::format("{}: the model has no '{}', which drawing needs", source, part.name));
  if (!entry->is_array() || entry->size() != 2 || !(*entry)[1].is_string())
    throw FileError(fmt::format("{}: '{}' is {}; wanted [library, class]", source, part.name,
                                dump_json(*entry)));
  auto found = (*entry)[1].get<std::string>();
  const std::string_view wanted = part.classes.front();
  if (found.empty() || (!wanted.empty() && !contains(part.classes, found)))
    throw FileError(fmt::format("{}: '{}' is a {}; wanted {}", source, part.name, found,
                                wanted.empty() ? "a scheduler's class" : wanted));
  if (!fs::is_directory(folder / part.name))
    throw FileError(fmt::format("{}: the folder '{}' is missing; is the download complete?",
                                folder.string(), part.name));
  return found;
}

/// scheduler_config.json with the class that the index names: diffusers takes that one, whatever
/// the file says, and gives it the fields of the file that it knows.
Json read_scheduler_config(const fs::path& file, const std::string& index_class) {
  Json config = read_json_file(file);
  const JsonConfig fields(config, file.string());
  const auto own_class = fields.get_or<std::string>("_class_name", index_class);
  if (own_class != index_class)
    spdlog::warn("{}: a {}, but model_index.json says {}; taking {}", file.string(), own_class,
                 index_class, index_class);
  config["_class_name"] = index_class;
  return config;
}

/// Throws FileError unless config.json names the class that the component must have.
void check_component_class(const Json& config, const Part& part, const std::string& source) {
  const JsonConfig fields(config, source);
  std::vector<std::string> classes;
  if (const auto diffusers = fields.get_optional<std::string>("_class_name"))
    classes.push_back(*diffusers);
  if (const auto transformers = fields.get_optional<std::vector<std::string>>("architectures"))
    classes.insert(classes.end(), transformers->begin(), transformers->end());
  if (classes.empty() || std::ranges::find(classes, part.classes.front()) != classes.end()) return;
  throw FileError(
      fmt::format("{}: a {}; wanted {}", source, first_names(classes), part.classes.front()));
}

/// See Note [Telling the family]. Throws FileError where pipeline and UNet disagree about SDXL.
ModelFamily family_of(const Component& unet_part, bool sdxl_pipeline) {
  const std::string source = unet_part.source + "/config.json";
  const JsonConfig unet(unet_part.config, source);
  const bool text_time = unet.get_optional<std::string>("addition_embed_type") == "text_time";
  if (text_time != sdxl_pipeline)
    throw FileError(fmt::format(
        "{}: addition_embed_type is {}text_time, but model_index.json names a pipeline {} SDXL",
        source, text_time ? "" : "not ", sdxl_pipeline ? "of" : "other than"));
  if (text_time) return ModelFamily::kSdxl;
  const auto heads = unet_part.config.find("attention_head_dim");
  const bool head_list = heads != unet_part.config.end() && heads->is_array();
  if (head_list || unet.get_or<bool>("use_linear_projection", false)) return ModelFamily::kSd2;
  return ModelFamily::kSd1;
}

void add_component(Checkpoint& checkpoint, std::vector<fs::path>& configs, const fs::path& folder,
                   const std::string& name) {
  auto opened = open_component_folder(folder / name, name);
  configs.push_back(opened.config_file);
  checkpoint.weight_files.insert(checkpoint.weight_files.end(), opened.weight_files.begin(),
                                 opened.weight_files.end());
  checkpoint.components.emplace(name, std::move(opened.component));
}

TokenizerFiles tokenizer_files(const fs::path& folder) {
  if (!is_tokenizer_folder(folder))
    throw FileError(fmt::format(
        "{}: no tokenizer; wanted tokenizer.json, or vocab.json and merges.txt", folder.string()));
  return {.folder = folder, .vocabulary = {}, .pad_token = {}};
}

}  // namespace

bool is_tokenizer_folder(const fs::path& folder) {
  return fs::exists(folder / "tokenizer.json") ||
         (fs::exists(folder / "vocab.json") && fs::exists(folder / "merges.txt"));
}

OpenedComponent open_component_folder(const fs::path& folder, const std::string& name) {
  const Part& part = part_named(name);
  const fs::path config_file = folder / "config.json";
  OpenedComponent out;
  out.config_file = config_file;
  out.component = {name, folder.string(), read_json_file(config_file), {}};
  check_component_class(out.component.config, part, config_file.string());
  const bool transformer = name.starts_with("text_encoder");
  auto weights = open_folder_weights(folder, transformer ? "model" : "diffusion_pytorch_model",
                                     folder.parent_path());
  out.weight_files = std::move(weights.files);
  out.component.weights = transformer     ? normalise_text_encoder(weights.tensors)
                          : name == "vae" ? normalise_vae(weights.tensors)
                                          : std::move(weights.tensors);
  require_float_weights(out.component);
  return out;
}

Checkpoint open_diffusers_folder(const fs::path& folder, const CheckpointOptions& options) {
  const fs::path index_file = folder / "model_index.json";
  if (!fs::exists(index_file)) refuse_without_index(folder);
  Checkpoint out;
  out.path = folder;
  out.model_index = read_json_file(index_file);
  const std::string source = index_file.string();
  const bool sdxl = check_pipeline(out.model_index, source);

  std::vector<fs::path> configs{index_file};
  for (const Part& part : kParts) {
    const std::string name(part.name);
    const bool replaced = (name == "vae" && !options.vae.empty()) ||
                          (name.starts_with("tokenizer") && !options.tokenizer.empty());
    if ((part.only_sdxl && !sdxl) || replaced) continue;
    const std::string index_class = check_part(folder, out.model_index, part, source);
    if (name.starts_with("tokenizer")) {
      out.tokenizers.emplace(name, tokenizer_files(folder / name));
    } else if (name == "scheduler") {
      configs.push_back(folder / name / "scheduler_config.json");
      out.scheduler_config = read_scheduler_config(configs.back(), index_class);
    } else {
      add_component(out, configs, folder, name);
    }
  }
  out.family = family_of(out.component("unet"), sdxl);
  out.weight_files.insert(out.weight_files.end(), configs.begin(), configs.end());
  return out;
}

}  // namespace molar
