#include "single_file.h"

#include <ATen/ops/std.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "checkpoint_parts.h"
#include "molar/core/error.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOverridesKey = "molar.config";
constexpr std::string_view kOverridable[] = {"unet", "vae", "text_encoder", "text_encoder_2",
                                             "scheduler"};

/// "v" and "epsilon" are modelspec's spellings.
std::string modelspec_prediction(const SafetensorsFile& file) {
  const auto it = file.metadata().find("modelspec.prediction_type");
  if (it == file.metadata().end() || it->second.empty()) return "";
  const std::string& found = it->second;
  if (found == "v" || found == "v_prediction") return "v_prediction";
  if (found == "epsilon" || found == "sample") return found;
  throw FileError(fmt::format(
      "{}: metadata modelspec.prediction_type is '{}'; wanted epsilon or v: give --prediction-type",
      file.path().string(), found));
}

/// SD 2.x files do not say what they predict. The v-prediction models' last transformer block has a
/// norm1.bias with a standard deviation above 0.09, the epsilon models' below (ComfyUI,
/// supported_models.py, SD20.model_type). "" where the block is missing or was never trained.
std::string sd2_prediction(const StateDict& unet) {
  constexpr double kThreshold = 0.09;
  const auto it = unet.find("up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias");
  if (it == unet.end()) return "";
  const double spread = at::std(it->second.to(at::kFloat), /*unbiased=*/false).item<double>();
  if (spread == 0.0) return "";
  return spread > kThreshold ? "v_prediction" : "epsilon";
}

/// See Note [Config of a single file]; the option is applied by open_checkpoint.
std::string find_prediction(const SafetensorsFile& file, const SingleFileParts& parts,
                            bool inpainting, bool option_given) {
  const std::string source = file.path().string();
  const std::string modelspec = option_given ? "" : modelspec_prediction(file);
  if (parts.v_pred_marker) {
    if (modelspec == "epsilon")
      spdlog::warn(
          "{}: has the marker v_pred, but its metadata says epsilon; taking v_prediction (change "
          "it with --prediction-type)",
          source);
    return "v_prediction";
  }
  if (!modelspec.empty()) return modelspec;
  if (parts.family != ModelFamily::kSd2 || inpainting || option_given) return "epsilon";
  const std::string told = sd2_prediction(parts.unet);
  if (!told.empty()) {
    spdlog::info("{}: SD 2.x, {} by its weights (change it with --prediction-type)", source, told);
    return told;
  }
  spdlog::warn(
      "{}: an SD 2.x file that does not say what it predicts; taking v_prediction. If the picture "
      "is noise, give --prediction-type epsilon",
      source);
  return "v_prediction";
}

void add_component(Checkpoint& out, const std::string& name, Json config, const Json& overrides,
                   const StateDict& weights) {
  config.update(overrides[name]);
  Component component{name, out.path.string(), std::move(config), weights};
  require_float_weights(component);
  out.components.emplace(name, std::move(component));
}

/// What model_index.json would say.
Json synthetic_index(const Checkpoint& checkpoint, bool inpainting) {
  const bool sdxl = checkpoint.family == ModelFamily::kSdxl;
  Json index = {
      {"_class_name",
       fmt::format("StableDiffusion{}{}Pipeline", sdxl ? "XL" : "", inpainting ? "Inpaint" : "")},
      {"scheduler", {"diffusers", checkpoint.scheduler_config["_class_name"]}},
      {"unet", {"diffusers", "UNet2DConditionModel"}},
      {"vae", {"diffusers", "AutoencoderKL"}},
      {"text_encoder", {"transformers", "CLIPTextModel"}},
      {"tokenizer", {"transformers", "CLIPTokenizer"}},
  };
  if (sdxl) {
    index["text_encoder_2"] = {"transformers", "CLIPTextModelWithProjection"};
    index["tokenizer_2"] = {"transformers", "CLIPTokenizer"};
    index["force_zeros_for_empty_prompt"] = true;
  }
  return index;
}

void add_tokenizers(Checkpoint& out, const fs::path& vocabulary) {
  if (!vocabulary.empty() && !fs::exists(vocabulary))
    throw FileError(fmt::format("{}: no such file; wanted OpenCLIP's bpe_simple_vocab_16e6.txt.gz",
                                vocabulary.string()));
  // OpenCLIP's models were trained with prompts padded by token 0, which is "!".
  const char* const first_pad = out.family == ModelFamily::kSd2 ? "!" : "<|endoftext|>";
  out.tokenizers["tokenizer"] = {.folder = {}, .vocabulary = vocabulary, .pad_token = first_pad};
  if (out.family == ModelFamily::kSdxl)
    out.tokenizers["tokenizer_2"] = {.folder = {}, .vocabulary = vocabulary, .pad_token = "!"};
}

}  // namespace

Json config_overrides(const SafetensorsFile& file) {
  Json out = Json::object();
  for (const std::string_view component : kOverridable)
    out[std::string(component)] = Json::object();
  const auto it = file.metadata().find(kOverridesKey);
  if (it == file.metadata().end()) return out;
  const std::string source = fmt::format("{}, metadata '{}'", file.path().string(), kOverridesKey);
  const Json found = parse_json(it->second, source);
  if (!found.is_object()) throw FileError(fmt::format("{}: wanted an object", source));
  for (const auto& [component, fields] : found.items()) {
    if (!out.contains(component) || !fields.is_object())
      throw FileError(fmt::format("{}: '{}' is not an object of config fields of a component",
                                  source, component));
    out[component] = fields;
  }
  return out;
}

Checkpoint open_single_file(const fs::path& path, const CheckpointOptions& options) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const std::string source = path.string();
  refuse_foreign_file(file);
  const SingleFileParts parts = split_single_file(file, !options.vae.empty());
  const Json overrides = config_overrides(file);

  Checkpoint out;
  out.path = path;
  out.family = parts.family;
  out.weight_files = {path};
  Json unet = unet_config(parts, overrides["unet"], source);
  const bool inpainting = unet["in_channels"] != unet["out_channels"];

  out.scheduler_config = scheduler_config(parts.family, inpainting);
  const std::string prediction = find_prediction(
      file, parts, inpainting,
      !options.prediction_type.empty() || overrides["scheduler"].contains("prediction_type"));
  out.scheduler_config["prediction_type"] = prediction;
  if (parts.ztsnr_marker) out.scheduler_config["rescale_betas_zero_snr"] = true;
  out.scheduler_config.update(overrides["scheduler"]);

  add_component(out, "unet", std::move(unet), overrides, parts.unet);
  if (!parts.vae.empty())
    add_component(out, "vae", vae_config(parts.vae, parts.family, inpainting, source), overrides,
                  parts.vae);
  for (const std::string name : {"text_encoder", "text_encoder_2"}) {
    const StateDict& weights = name == "text_encoder" ? parts.text_encoder : parts.text_encoder_2;
    if (!weights.empty())
      add_component(out, name, text_encoder_config(parts, name, overrides[name], source), overrides,
                    weights);
  }
  out.model_index = synthetic_index(out, inpainting);
  if (options.tokenizer.empty()) add_tokenizers(out, options.clip_vocabulary);
  return out;
}

}  // namespace molar
