#include "molar/io/checkpoint.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "checkpoint_parts.h"
#include "diffusers_folder.h"
#include "molar/core/error.h"
#include "molar/io/file.h"
#include "single_file.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPredictionTypes[] = {"epsilon", "v_prediction", "sample"};

/// Channels of conv_in that we have no second input for, and the pipelines that feed them.
constexpr std::pair<int64_t, std::string_view> kOtherInputs[] = {
    {5, "a depth-to-image model"},
    {7, "a 4x upscaler"},
    {8, "an InstructPix2Pix or Zero123 model"},
};

int64_t config_int(const Component& component, const std::string& key, int64_t fallback) {
  return JsonConfig(component.config, component.source).get_or<int64_t>(key, fallback);
}

bool is_inpainting(const Component& unet) {
  return config_int(unet, "in_channels", 4) != config_int(unet, "out_channels", 4);
}

/// Throws FileError unless the UNet takes latents, or latents with mask and masked picture.
void check_input_channels(const Component& unet) {
  const int64_t in = config_int(unet, "in_channels", 4);
  const int64_t latent = config_int(unet, "out_channels", 4);
  const int64_t inpainting = 2 * latent + 1;
  if (in == latent || in == inpainting) return;
  for (const auto& [channels, what] : kOtherInputs)
    if (in == channels)
      throw FileError(fmt::format("{}: the UNet takes {} channels: {}, which is not supported",
                                  unet.source, in, what));
  throw FileError(fmt::format("{}: the UNet takes {} channels; wanted {}, or {} for inpainting",
                              unet.source, in, latent, inpainting));
}

void check_latent_channels(const Checkpoint& checkpoint) {
  const Component& vae = checkpoint.component("vae");
  const int64_t wanted = config_int(checkpoint.component("unet"), "out_channels", 4);
  const int64_t found = config_int(vae, "latent_channels", 4);
  if (found != wanted)
    throw FileError(fmt::format("{}: this VAE has {} latent channels; the model's UNet wants {}",
                                vae.source, found, wanted));
}

/// The folder or file that `--vae` names, as a component; its files first.
OpenedComponent open_vae(const fs::path& path, const Checkpoint& checkpoint) {
  if (fs::is_directory(path)) {
    const bool whole_model = fs::is_directory(path / "vae");
    return open_component_folder(whole_model ? path / "vae" : path, "vae");
  }
  refuse_other_formats(path);
  const SafetensorsFile file = SafetensorsFile::open(path);
  OpenedComponent out;
  out.component = {"vae", path.string(), {}, vae_of_single_file(file)};
  out.component.config = vae_config(out.component.weights, checkpoint.family,
                                    is_inpainting(checkpoint.component("unet")), path.string());
  out.component.config.update(config_overrides(file)["vae"]);
  require_float_weights(out.component);
  out.weight_files = {path};
  return out;
}

void replace_vae(Checkpoint& checkpoint, const fs::path& path) {
  auto opened = open_vae(path, checkpoint);
  auto& files = checkpoint.weight_files;
  files.insert(std::ranges::find(files, fs::path(".json"), &fs::path::extension),
               opened.weight_files.begin(), opened.weight_files.end());
  if (!opened.config_file.empty()) files.push_back(opened.config_file);
  checkpoint.components["vae"] = std::move(opened.component);
}

/// `--tokenizer`: a folder with tokenizer/ and tokenizer_2/, or one tokenizer's own.
TokenizerFiles tokenizer_in(const fs::path& folder, const std::string& name) {
  if (is_tokenizer_folder(folder / name)) return {folder / name, {}, {}};
  if (!is_tokenizer_folder(folder))
    throw FileError(
        fmt::format("{0}: no {1} here; wanted tokenizer.json, or vocab.json and merges.txt, in the "
                    "folder or in its {1}/",
                    folder.string(), name));
  // One folder has one pad token; SDXL's second encoder was trained with "!".
  return {folder, {}, std::string(name == "tokenizer_2" ? "!" : "")};
}

void replace_tokenizers(Checkpoint& checkpoint, const fs::path& folder) {
  checkpoint.tokenizers["tokenizer"] = tokenizer_in(folder, "tokenizer");
  if (checkpoint.family == ModelFamily::kSdxl)
    checkpoint.tokenizers["tokenizer_2"] = tokenizer_in(folder, "tokenizer_2");
}

}  // namespace

std::string_view family_name(ModelFamily family) {
  switch (family) {
    case ModelFamily::kSd1:
      return "SD 1.x";
    case ModelFamily::kSd2:
      return "SD 2.x";
    case ModelFamily::kSdxl:
      break;
  }
  return "SDXL";
}

const Component& Checkpoint::component(const std::string& name) const {
  const auto it = components.find(name);
  if (it == components.end())
    throw FileError(fmt::format("{}: the model has no '{}'", path.string(), name));
  return it->second;
}

bool Checkpoint::has(const std::string& name) const { return components.contains(name); }

Checkpoint open_checkpoint(const fs::path& path, const CheckpointOptions& options) {
  const std::string& prediction = options.prediction_type;
  if (!prediction.empty() &&
      std::ranges::find(kPredictionTypes, prediction) == std::end(kPredictionTypes))
    throw ConfigError(fmt::format(
        "prediction type '{}' is unknown; wanted epsilon, v_prediction or sample", prediction));
  for (const fs::path& named : {path, options.vae, options.tokenizer})
    if (!named.empty() && !fs::exists(named))
      throw FileError(
          fmt::format("{}: no such file or folder{}", named.string(), path_suggestion(named)));

  Checkpoint out;
  if (fs::is_directory(path)) {
    out = open_diffusers_folder(path, options);
  } else {
    refuse_other_formats(path);
    out = open_single_file(path, options);
  }
  check_input_channels(out.component("unet"));
  if (!options.vae.empty()) replace_vae(out, options.vae);
  check_latent_channels(out);
  // diffusers' pipelines of SD 1.x and 2.x never look at these; they scale by the factor alone.
  if (out.family != ModelFamily::kSdxl)
    for (const char* key : {"latents_mean", "latents_std"})
      out.components.at("vae").config.erase(key);
  if (!options.tokenizer.empty()) replace_tokenizers(out, options.tokenizer);
  if (!prediction.empty()) out.scheduler_config["prediction_type"] = prediction;
  return out;
}

}  // namespace molar
