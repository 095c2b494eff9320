// What a .safetensors file is that is no Stable Diffusion checkpoint, told from its tensor names.
#include <fmt/format.h>

#include "checkpoint_parts.h"
#include "molar/core/error.h"
#include "single_file.h"

namespace molar {
namespace {

enum class Where { kStart, kInside, kEnd };

/// One tensor name like this is enough to tell.
struct Mark {
  std::string_view text;
  Where where;
  std::string_view what;
};

constexpr std::string_view kLora =
    "a LoRA, not a model; give it with --lora, --subject or --style, and the model that it was "
    "trained on with -m";
constexpr std::string_view kAlone =
    "one component under diffusers' names, not a whole model; give the diffusers folder above it";

// The first row that fits a tensor name of the file decides.
constexpr Mark kMarks[] = {
    {".lora_down.weight", Where::kEnd, kLora},
    {".lora.down.weight", Where::kEnd, kLora},
    {"_lora.down.weight", Where::kEnd, kLora},
    {".lora_linear_layer.down.weight", Where::kEnd, kLora},
    {".lora_A.weight", Where::kEnd, kLora},
    {".lora_A.default.weight", Where::kEnd, kLora},
    {".hada_w1_a", Where::kEnd, kLora},
    {".lokr_w1", Where::kEnd, kLora},
    {".lokr_w1_a", Where::kEnd, kLora},
    {"input_k.weight", Where::kStart, "a hypernetwork, not a model; give it with --hypernet"},
    {"moe_lora_unet_", Where::kStart, "MoLE gates, not a model; give their folder with --mole"},
    {"control_model.", Where::kStart, "a ControlNet, which is not supported"},
    {"controlnet_cond_embedding.", Where::kStart, "a ControlNet, which is not supported"},
    {"motion_modules.", Where::kInside, "an AnimateDiff motion module, which is not supported"},
    {"distilled_guidance_layer.", Where::kInside, "a Chroma model, which is not supported"},
    {"single_stream_modulation.", Where::kInside, "a Flux 2 model, which is not supported"},
    {"double_blocks.0.img_attn.", Where::kInside, "a Flux model, which is not supported"},
    {"joint_blocks.0.", Where::kInside, "a Stable Diffusion 3 model, which is not supported"},
    {"cap_embedder.", Where::kInside, "a Lumina model, which is not supported"},
    {"clip_txt_mapper.", Where::kStart, "a Stable Cascade model, which is not supported"},
    {"double_layers.0.attn.", Where::kInside, "an AuraFlow model, which is not supported"},
    {"double_stream_blocks.", Where::kInside, "a HiDream model, which is not supported"},
    {"patchify_proj.", Where::kInside, "an LTX-Video model, which is not supported"},
    {"txt_in.individual_token_refiner.", Where::kInside,
     "a HunyuanVideo model, which is not supported"},
    {"head.modulation", Where::kEnd, "a Wan model, which is not supported"},
    {"adaln_single.", Where::kInside, "a PixArt model, which is not supported"},
    {"cc_projection.", Where::kStart, "a Zero123 model, which is not supported"},
    {".time_stack.", Where::kInside, "a Stable Video Diffusion model, which is not supported"},
    {"noise_augmentor.", Where::kStart, "an unCLIP model, which is not supported"},
    {"edm_mean", Where::kStart, "a Playground 2.5 model (EDM noise), which is not supported"},
    {"edm_vpred.", Where::kStart, "a CosXL model (EDM noise), which is not supported"},
    {"emb_params", Where::kStart, "a textual inversion embedding, not a model"},
    {"string_to_param", Where::kStart, "a textual inversion embedding, not a model"},
    {"down_blocks.0.", Where::kStart, kAlone},
    {"text_model.", Where::kStart, kAlone},
    {"embeddings.token_embedding.", Where::kStart, kAlone},
};

bool fits(const Mark& mark, std::string_view name) {
  switch (mark.where) {
    case Where::kStart:
      return name.starts_with(mark.text);
    case Where::kInside:
      return name.find(mark.text) != std::string_view::npos;
    case Where::kEnd:
      return name.ends_with(mark.text);
  }
  return false;
}

}  // namespace

void refuse_foreign_file(const SafetensorsFile& file) {
  const auto& entries = file.entries();
  for (const Mark& mark : kMarks)
    for (const auto& [name, entry] : entries)
      if (fits(mark, name))
        throw FileError(fmt::format("{}: {} (tensor '{}')", file.path().string(), mark.what, name));
  // The refiner has OpenCLIP alone, as SD 2.x files in sgm's layout have, and SDXL's size
  // embedding.
  const auto starts = [&](std::string_view prefix) {
    const auto it = entries.lower_bound(std::string(prefix));
    return it != entries.end() && it->first.starts_with(prefix);
  };
  if (starts("conditioner.embedders.0.model.") && starts("model.diffusion_model.label_emb."))
    throw FileError(
        fmt::format("{}: the SDXL refiner, which is not supported; give the SDXL base model",
                    file.path().string()));
  const bool vae_alone = !starts("model.") && (starts("encoder.conv_") || starts("decoder.conv_"));
  if (vae_alone)
    throw FileError(
        fmt::format("{}: a VAE, not a whole model; give it with --vae and a model with -m",
                    file.path().string()));
}

}  // namespace molar
