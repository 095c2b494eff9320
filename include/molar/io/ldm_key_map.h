/// Names of single-file checkpoints ("LDM" and "sgm" training code, OpenCLIP) -> diffusers' names.
/// Pure text: every function also takes the name of a module instead of a parameter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace molar {

/// UNet, without its prefix `model.diffusion_model.`:
/// "input_blocks.4.1.proj_in.weight" -> "down_blocks.1.attentions.0.proj_in.weight".
/// `layers_per_block` is diffusers' (2 in every Stable Diffusion). nullopt: no such place in a
/// UNet.
std::optional<std::string> unet_name_from_ldm(std::string_view name, int64_t layers_per_block);

/// VAE, without its prefix `first_stage_model.`:
/// "decoder.up.3.block.0.nin_shortcut.bias" -> "decoder.up_blocks.0.resnets.0.conv_shortcut.bias".
/// `num_blocks` counts the decoder's levels: LDM numbers them from the finest, diffusers from the
/// coarsest. nullopt: no such place in a VAE.
std::optional<std::string> vae_name_from_ldm(std::string_view name, int64_t num_blocks);

/// How OpenCLIP's tensor becomes the one that transformers names.
enum class TensorUse {
  kAsIs,
  kTransposed,  ///< text_projection: x @ W there, a Linear's weight here
  kSplitQkv,    ///< in_proj: rows of q, k and v; the name then holds "{}" for "q", "k", "v"
};
struct OpenClipName {
  std::string name;
  TensorUse use = TensorUse::kAsIs;
};

/// OpenCLIP's text tower, without its prefix (`cond_stage_model.model.` in SD 2.x,
/// `conditioner.embedders.1.model.` in SDXL), to CLIPTextModel(WithProjection):
/// "transformer.resblocks.3.mlp.c_fc.bias" -> "text_model.encoder.layers.3.mlp.fc1.bias".
/// nullopt: no such place in the tower.
std::optional<OpenClipName> text_name_from_open_clip(std::string_view name);

}  // namespace molar
