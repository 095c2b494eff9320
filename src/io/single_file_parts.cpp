// A single file's tensors, sorted into components and renamed; nothing is copied.
#include <fmt/format.h>

#include <functional>

#include "checkpoint_parts.h"
#include "molar/core/error.h"
#include "molar/io/ldm_key_map.h"
#include "single_file.h"

namespace molar {
namespace {

/// The parts as files name them.
enum class Part { kUnet, kVae, kClip, kOpenClip };
struct Prefix {
  std::string_view text;
  Part part;
};
constexpr Prefix kPrefixes[] = {
    {"model.diffusion_model.", Part::kUnet},
    {"first_stage_model.", Part::kVae},
    {"vae.", Part::kVae},
    {"cond_stage_model.transformer.", Part::kClip},         // SD 1.x
    {"conditioner.embedders.0.transformer.", Part::kClip},  // SDXL's first
    {"cond_stage_model.model.", Part::kOpenClip},           // SD 2.x
    {"conditioner.embedders.0.model.", Part::kOpenClip},    // SD 2.x as sgm names it
    {"conditioner.embedders.1.model.", Part::kOpenClip},    // SDXL's second
};

/// Names that end in '.' stand for everything under them. All are training state, constants that
/// the scheduler's config gives anew, or parts that the family does not use.
constexpr std::string_view kIgnored[] = {
    "model_ema.",
    "optimizer_states.",
    "embedding_manager.",
    "denoiser.",
    "first_stage_model.loss.",
    "first_stage_model.model_ema.",
    "vae.loss.",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "betas",
    "global_step",
    "iteration",
    "log_one_minus_alphas_cumprod",
    "logvar",
    "lvlb_weights",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "posterior_variance",
    "scale_factor",
    "sqrt_alphas_cumprod",
    "sqrt_alphas_cumprod_prev",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "v_pred",
    "ztsnr",
    "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection",
    "cond_stage_model.transformer.logit_scale",
    "cond_stage_model.transformer.text_projection.weight",
    "cond_stage_model.transformer.vision_model.",
    "cond_stage_model.transformer.visual_projection.weight",
    "cond_stage_model.model.attn_mask",
    "cond_stage_model.model.logit_scale",
    "cond_stage_model.model.visual.",
    "conditioner.embedders.0.logit_scale",
    "conditioner.embedders.0.text_projection",
    "conditioner.embedders.0.transformer.logit_scale",
    "conditioner.embedders.0.transformer.text_projection.weight",
    "conditioner.embedders.0.model.attn_mask",
    "conditioner.embedders.0.model.logit_scale",
    "conditioner.embedders.1.model.attn_mask",
    "conditioner.embedders.1.model.logit_scale",
};

bool is_ignored(std::string_view name) {
  for (const std::string_view entry : kIgnored)
    if (entry.ends_with('.') ? name.starts_with(entry) : name == entry) return true;
  return false;
}

/// The file's tensors by part, prefixes removed.
struct SortedTensors {
  std::map<Part, StateDict> parts;
  std::vector<std::string> unknown;
};

SortedTensors sort_tensors(const SafetensorsFile& file) {
  SortedTensors out;
  for (const auto& [name, entry] : file.entries()) {
    if (is_ignored(name)) continue;
    bool placed = false;
    for (const auto& [prefix, part] : kPrefixes) {
      if (!name.starts_with(prefix)) continue;
      if (!out.parts[part].emplace(name.substr(prefix.size()), file.tensor(name)).second)
        throw FileError(fmt::format("{}: tensor '{}' is there twice, under two prefixes",
                                    file.path().string(), name));
      placed = true;
      break;
    }
    if (!placed) out.unknown.push_back(name);
  }
  return out;
}

void refuse_unknown(const std::vector<std::string>& names, std::string_view what,
                    const std::string& source) {
  if (names.empty()) return;
  throw FileError(fmt::format("{}: {} tensor(s) with names that no {} has: {}", source,
                              names.size(), what, first_names(names)));
}

/// Renames every tensor. Throws FileError for names that `rename` does not know.
StateDict renamed(const StateDict& tensors, std::string_view what, const std::string& source,
                  const std::function<std::optional<std::string>(std::string_view)>& rename) {
  StateDict out;
  std::vector<std::string> unknown;
  for (const auto& [name, tensor] : tensors) {
    const auto new_name = rename(name);
    if (!new_name || !out.emplace(*new_name, tensor).second) unknown.push_back(name);
  }
  refuse_unknown(unknown, what, source);
  return out;
}

/// The first downsampler stands behind the first block's layers: input_blocks.`layers + 1`.0.op.
int64_t unet_layers_per_block(const StateDict& unet) {
  const int64_t num_input_blocks = count_indices(unet, "input_blocks.");
  for (int64_t i = 1; i < num_input_blocks; ++i)
    if (unet.contains(fmt::format("input_blocks.{}.0.op.weight", i))) return i - 1;
  return num_input_blocks - 1;
}

StateDict convert_vae(const StateDict& vae, const std::string& source) {
  if (count_indices(vae, "decoder.up_blocks.") > 0) return normalise_vae(vae);  // diffusers' names
  const int64_t num_blocks = count_indices(vae, "decoder.up.");
  return normalise_vae(renamed(vae, "VAE", source, [&](std::string_view name) {
    return vae_name_from_ldm(name, num_blocks);
  }));
}

void add_open_clip_tensor(StateDict& out, const OpenClipName& target, const Tensor& tensor,
                          const std::string& source) {
  switch (target.use) {
    case TensorUse::kAsIs:
      out.emplace(target.name, tensor);
      return;
    case TensorUse::kTransposed:
      if (tensor.dim() != 2)
        throw FileError(fmt::format("{}: text_projection has shape {}; wanted a matrix", source,
                                    shape_string(tensor.sizes())));
      out.emplace(target.name, tensor.t());
      return;
    case TensorUse::kSplitQkv:
      break;
  }
  if (tensor.dim() < 1 || tensor.size(0) % 3 != 0)
    throw FileError(fmt::format("{}: fused attention weight for {} has shape {}; wanted 3n rows",
                                source, target.name, shape_string(tensor.sizes())));
  const int64_t rows = tensor.size(0) / 3;
  int64_t first = 0;
  for (const char* const role : {"q", "k", "v"}) {
    out.emplace(fmt::format(fmt::runtime(target.name), role), tensor.narrow(0, first, rows));
    first += rows;
  }
}

/// SD 2.x reads the tower's last layer but one, and diffusers leaves the last one out of the model.
/// Files that the training code wrote have it (24 layers, and text_projection); files written back
/// from diffusers may lack it (23 layers).
bool has_unused_last_layer(const StateDict& tower, int64_t num_layers) {
  constexpr int64_t kTrained = 24, kUsed = 23;
  return num_layers == kTrained || (num_layers != kUsed && tower.contains("text_projection"));
}

StateDict convert_open_clip(const StateDict& tower, ModelFamily family, const std::string& source) {
  const int64_t num_layers = count_indices(tower, "transformer.resblocks.");
  const bool sd2 = family == ModelFamily::kSd2;
  const std::string unused = sd2 && has_unused_last_layer(tower, num_layers)
                                 ? fmt::format("transformer.resblocks.{}.", num_layers - 1)
                                 : "";
  StateDict out;
  std::vector<std::string> unknown;
  for (const auto& [name, tensor] : tower) {
    if (!unused.empty() && name.starts_with(unused)) continue;
    if (sd2 && name == "text_projection") continue;  // CLIPTextModel has none
    const auto target = text_name_from_open_clip(name);
    if (target)
      add_open_clip_tensor(out, *target, tensor, source);
    else
      unknown.push_back(name);
  }
  refuse_unknown(unknown, "OpenCLIP text tower", source);
  return out;
}

/// Throws FileError that names the first part that is missing.
void require_parts(const SafetensorsFile& file, const SortedTensors& sorted, bool vae_replaced) {
  const std::string source = file.path().string();
  const auto has = [&](Part part) { return sorted.parts.contains(part); };
  if (!has(Part::kUnet)) {
    const auto ema = file.entries().lower_bound("model_ema.");
    if (ema != file.entries().end() && ema->first.starts_with("model_ema."))
      throw FileError(fmt::format(
          "{}: only EMA weights of the UNet (model_ema.*); wanted model.diffusion_model.*: give "
          "the pruned (\"emaonly\") file of this model, whose EMA weights are under that name",
          source));
    throw FileError(
        fmt::format("{}: not a Stable Diffusion checkpoint (no model.diffusion_model.* tensors); "
                    "wanted a single file of SD 1.x, 2.x or XL, or a diffusers folder",
                    source));
  }
  if (!has(Part::kVae) && !vae_replaced)
    throw FileError(
        fmt::format("{}: no VAE (first_stage_model.*) in this file; give one with --vae", source));
  if (!has(Part::kClip) && !has(Part::kOpenClip))
    throw FileError(fmt::format(
        "{}: no text encoder (cond_stage_model.* or conditioner.embedders.*) in this file; it is a "
        "UNet{} alone: give a whole checkpoint",
        source, has(Part::kVae) ? " and a VAE" : ""));
}

ModelFamily family_of(const SortedTensors& sorted, const std::string& source) {
  const bool clip = sorted.parts.contains(Part::kClip);
  const bool open_clip = sorted.parts.contains(Part::kOpenClip);
  const bool size_embedding = sorted.parts.at(Part::kUnet).contains("label_emb.0.0.weight");
  if (size_embedding && !(clip && open_clip))
    throw FileError(
        fmt::format("{}: an SDXL UNet without its {} text encoder (conditioner.embedders.{}.*)",
                    source, clip ? "second" : "first", clip ? 1 : 0));
  if (clip && open_clip && !size_embedding)
    throw FileError(fmt::format(
        "{}: two text encoders, but the UNet has no size embedding (label_emb.*) as SDXL's has",
        source));
  if (size_embedding) return ModelFamily::kSdxl;
  return clip ? ModelFamily::kSd1 : ModelFamily::kSd2;
}

}  // namespace

SingleFileParts split_single_file(const SafetensorsFile& file, bool vae_replaced) {
  const std::string source = file.path().string();
  const SortedTensors sorted = sort_tensors(file);
  require_parts(file, sorted, vae_replaced);
  refuse_unknown(sorted.unknown, "Stable Diffusion checkpoint", source);

  SingleFileParts out;
  out.family = family_of(sorted, source);
  out.v_pred_marker = file.entries().contains("v_pred");
  out.ztsnr_marker = file.entries().contains("ztsnr");
  const StateDict& unet = sorted.parts.at(Part::kUnet);
  out.layers_per_block = unet_layers_per_block(unet);
  if (out.layers_per_block < 1)
    throw FileError(fmt::format("{}: a UNet without down blocks (input_blocks.1.*)", source));
  out.unet = renamed(unet, "UNet", source, [&](std::string_view name) {
    return unet_name_from_ldm(name, out.layers_per_block);
  });
  if (sorted.parts.contains(Part::kVae) && !vae_replaced)
    out.vae = convert_vae(sorted.parts.at(Part::kVae), source);
  if (sorted.parts.contains(Part::kClip))
    out.text_encoder = normalise_text_encoder(sorted.parts.at(Part::kClip));
  if (sorted.parts.contains(Part::kOpenClip)) {
    auto converted = convert_open_clip(sorted.parts.at(Part::kOpenClip), out.family, source);
    (out.family == ModelFamily::kSdxl ? out.text_encoder_2 : out.text_encoder) =
        std::move(converted);
  }
  return out;
}

StateDict vae_of_single_file(const SafetensorsFile& file) {
  const std::string source = file.path().string();
  StateDict inside, alone;
  std::vector<std::string> unknown;
  for (const auto& [name, entry] : file.entries()) {
    if (is_ignored(name) || name.starts_with("loss.")) continue;
    bool placed = false;
    for (const auto& [prefix, part] : kPrefixes)
      if (part == Part::kVae && name.starts_with(prefix))
        placed = inside.emplace(name.substr(prefix.size()), file.tensor(name)).second;
    if (placed) continue;
    if (name.starts_with("encoder.") || name.starts_with("decoder.") ||
        name.starts_with("quant_conv.") || name.starts_with("post_quant_conv."))
      alone.emplace(name, file.tensor(name));
    else
      unknown.push_back(name);
  }
  if (!inside.empty()) return convert_vae(inside, source);
  if (!alone.contains("decoder.conv_in.weight"))
    throw FileError(fmt::format(
        "{}: no VAE in this file; wanted encoder.* and decoder.*, or first_stage_model.*", source));
  refuse_unknown(unknown, "VAE", source);
  return convert_vae(alone, source);
}

}  // namespace molar
