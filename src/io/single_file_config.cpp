// Configs of a single file's components; see Note [Config of a single file] in checkpoint.h.
#include <fmt/format.h>

#include <algorithm>

#include "checkpoint_parts.h"
#include "molar/core/error.h"
#include "single_file.h"

namespace molar {
namespace {

/// What the family fixes and no tensor shows. Source: the config files of stable-diffusion-v1-5,
/// stable-diffusion-2-1, stable-diffusion-xl-base-1.0 and their inpainting models, which diffusers'
/// from_single_file reads too.
struct FamilyFacts {
  int64_t unet_sample_size, inpainting_sample_size;  ///< latent pixels
  bool upcast_attention;
  double scaling_factor;
  bool force_upcast;
  const char* scheduler;
};
constexpr FamilyFacts kSd1Facts = {64, 64, false, 0.18215, false, "PNDMScheduler"};
constexpr FamilyFacts kSd2Facts = {96, 64, true, 0.18215, false, "DDIMScheduler"};
constexpr FamilyFacts kSdxlFacts = {128, 128, false, 0.13025, true, "EulerDiscreteScheduler"};
constexpr int64_t kChannelsPerHead = 64;  // SD 2.x, SDXL and every CLIP text encoder
constexpr int64_t kSd1Heads = 8;

const FamilyFacts& facts_of(ModelFamily family) {
  switch (family) {
    case ModelFamily::kSd1:
      return kSd1Facts;
    case ModelFamily::kSd2:
      return kSd2Facts;
    case ModelFamily::kSdxl:
      break;
  }
  return kSdxlFacts;
}

int64_t heads_of(int64_t channels, const std::string& what, const std::string& source) {
  if (channels % kChannelsPerHead != 0)
    throw FileError(
        fmt::format("{}: cannot tell the number of heads of {} with {} channels; wanted a multiple "
                    "of {}, or the metadata entry molar.config",
                    source, what, channels, kChannelsPerHead));
  return channels / kChannelsPerHead;
}

/// Transformer blocks of every attention under `prefix`, which must agree; 0 where there is none.
int64_t transformer_depth(const StateDict& unet, const std::string& prefix,
                          const std::string& source) {
  const int64_t num_attentions = count_indices(unet, prefix + "attentions.");
  int64_t depth = 0;
  for (int64_t i = 0; i < num_attentions; ++i) {
    const std::string attention = fmt::format("{}attentions.{}.transformer_blocks.", prefix, i);
    const int64_t blocks = count_indices(unet, attention);
    if (i > 0 && blocks != depth)
      throw FileError(
          fmt::format("{}: a pruned UNet ({} and its neighbour differ in depth: {} and {}); wanted "
                      "the layout of SD 1.x, 2.x or XL: give the model as a diffusers folder",
                      source, attention, blocks, depth));
    depth = blocks;
  }
  return depth;
}

/// What a UNet's names say about its blocks.
struct UNetBlocks {
  std::vector<int64_t> channels, depths;
  std::vector<std::string> down_types, up_types;
};

UNetBlocks unet_blocks(const StateDict& unet, const std::string& source) {
  UNetBlocks out;
  const int64_t num_blocks = count_indices(unet, "down_blocks.");
  const auto refuse = [&](const std::string& what, int64_t found, int64_t wanted) {
    throw FileError(
        fmt::format("{}: {} is {}, wanted {} as in SD 1.x, 2.x and XL; give a pruned model as a "
                    "diffusers folder",
                    source, what, found, wanted));
  };
  for (int64_t b = 0; b < num_blocks; ++b) {
    const std::string prefix = fmt::format("down_blocks.{}.", b);
    out.channels.push_back(size_of(unet, prefix + "resnets.0.conv1.weight", 0, source));
    const int64_t depth = transformer_depth(unet, prefix, source);
    out.depths.push_back(std::max<int64_t>(depth, 1));
    out.down_types.push_back(depth > 0 ? "CrossAttnDownBlock2D" : "DownBlock2D");
    if (depth == 0 && b + 1 == num_blocks)  // the middle block takes its depth from this place
      out.depths.back() = std::max<int64_t>(transformer_depth(unet, "mid_block.", source), 1);
  }
  const int64_t mid_depth = transformer_depth(unet, "mid_block.", source);
  if (out.depths.empty() || mid_depth != out.depths.back())
    refuse("the middle block's depth", mid_depth, out.depths.empty() ? 1 : out.depths.back());
  if (const int64_t num_up = count_indices(unet, "up_blocks."); num_up != num_blocks)
    refuse("the number of up blocks", num_up, num_blocks);
  for (int64_t b = 0; b < num_blocks; ++b) {
    const std::string prefix = fmt::format("up_blocks.{}.", b);
    const int64_t depth = transformer_depth(unet, prefix, source);
    const auto mirrored = static_cast<size_t>(num_blocks - 1 - b);
    const bool attends = out.down_types[mirrored] == "CrossAttnDownBlock2D";
    if (depth != (attends ? out.depths[mirrored] : 0))
      refuse(prefix + "attentions' depth", depth, attends ? out.depths[mirrored] : 0);
    out.up_types.push_back(attends ? "CrossAttnUpBlock2D" : "UpBlock2D");
  }
  return out;
}

void add_sdxl_fields(Json& config, const SingleFileParts& parts, const std::string& source) {
  constexpr int64_t kNumTimeIds = 6;
  const int64_t input = size_of(parts.unet, "add_embedding.linear_1.weight", 1, source);
  const int64_t pooled = size_of(parts.text_encoder_2, "text_projection.weight", 0, source);
  if (input <= pooled || (input - pooled) % kNumTimeIds != 0)
    throw FileError(
        fmt::format("{}: the size embedding takes {} values; wanted {} of the second text encoder "
                    "and {} times n",
                    source, input, pooled, kNumTimeIds));
  config["addition_embed_type"] = "text_time";
  config["addition_time_embed_dim"] = (input - pooled) / kNumTimeIds;
  config["projection_class_embeddings_input_dim"] = input;
}

/// The first attention in the order of `down_types`, else the middle block's.
std::string first_attention(const UNetBlocks& blocks) {
  for (size_t b = 0; b < blocks.down_types.size(); ++b)
    if (blocks.down_types[b] == "CrossAttnDownBlock2D")
      return fmt::format("down_blocks.{}.attentions.0.", b);
  return "mid_block.attentions.0.";
}

}  // namespace

Json unet_config(const SingleFileParts& parts, const Json& overrides, const std::string& source) {
  const StateDict& unet = parts.unet;
  const FamilyFacts& facts = facts_of(parts.family);
  const UNetBlocks blocks = unet_blocks(unet, source);
  const std::string attention = first_attention(blocks);
  const int64_t in_channels = size_of(unet, "conv_in.weight", 1, source);
  const int64_t out_channels = size_of(unet, "conv_out.weight", 0, source);
  const bool inpainting = in_channels > out_channels;
  Json config = {
      {"_class_name", "UNet2DConditionModel"},
      {"act_fn", "silu"},
      {"block_out_channels", blocks.channels},
      {"center_input_sample", false},
      {"cross_attention_dim",
       size_of(unet, attention + "transformer_blocks.0.attn2.to_k.weight", 1, source)},
      {"down_block_types", blocks.down_types},
      {"downsample_padding", 1},
      {"flip_sin_to_cos", true},
      {"freq_shift", 0},
      {"in_channels", in_channels},
      {"layers_per_block", parts.layers_per_block},
      {"mid_block_scale_factor", 1},
      {"mid_block_type", "UNetMidBlock2DCrossAttn"},
      {"norm_eps", 1e-5},
      {"norm_num_groups", 32},
      {"out_channels", out_channels},
      {"sample_size", inpainting ? facts.inpainting_sample_size : facts.unet_sample_size},
      {"transformer_layers_per_block", 1},
      {"up_block_types", blocks.up_types},
      {"upcast_attention", facts.upcast_attention && !inpainting},
      {"use_linear_projection", unet.at(attention + "proj_in.weight").dim() == 2},
  };
  if (parts.family == ModelFamily::kSdxl) {
    add_sdxl_fields(config, parts, source);
    config["transformer_layers_per_block"] = blocks.depths;
  }
  if (overrides.contains("attention_head_dim")) return config;  // open_single_file adds it
  if (parts.family == ModelFamily::kSd1) {
    config["attention_head_dim"] = kSd1Heads;
  } else {
    // diffusers' name is historical: the field holds the number of heads.
    for (const int64_t channels : blocks.channels)
      config["attention_head_dim"].push_back(heads_of(channels, "a UNet block", source));
  }
  return config;
}

Json vae_config(const StateDict& vae, ModelFamily family, bool inpainting,
                const std::string& source) {
  const FamilyFacts& facts = facts_of(family);
  const int64_t num_blocks = count_indices(vae, "encoder.down_blocks.");
  std::vector<int64_t> channels;
  for (int64_t b = 0; b < num_blocks; ++b)
    channels.push_back(
        size_of(vae, fmt::format("encoder.down_blocks.{}.resnets.0.conv1.weight", b), 0, source));
  const auto count = static_cast<size_t>(num_blocks);
  const int64_t latent_size = inpainting ? facts.inpainting_sample_size : facts.unet_sample_size;
  return {
      {"_class_name", "AutoencoderKL"},
      {"act_fn", "silu"},
      {"block_out_channels", channels},
      {"down_block_types", std::vector<std::string>(count, "DownEncoderBlock2D")},
      {"force_upcast", facts.force_upcast},
      {"in_channels", size_of(vae, "encoder.conv_in.weight", 1, source)},
      {"latent_channels", size_of(vae, "decoder.conv_in.weight", 1, source)},
      {"layers_per_block", count_indices(vae, "encoder.down_blocks.0.resnets.")},
      {"mid_block_add_attention", vae.contains("decoder.mid_block.attentions.0.to_q.weight")},
      {"norm_num_groups", 32},
      {"out_channels", size_of(vae, "decoder.conv_out.weight", 0, source)},
      {"sample_size", latent_size << (std::max<int64_t>(num_blocks, 1) - 1)},  // halved per level
      {"scaling_factor", facts.scaling_factor},
      {"up_block_types", std::vector<std::string>(count, "UpDecoderBlock2D")},
      {"use_post_quant_conv", vae.contains("post_quant_conv.weight")},
      {"use_quant_conv", vae.contains("quant_conv.weight")},
  };
}

Json text_encoder_config(const SingleFileParts& parts, const std::string& component,
                         const Json& overrides, const std::string& source) {
  const bool second = component == "text_encoder_2";
  const StateDict& weights = second ? parts.text_encoder_2 : parts.text_encoder;
  const bool open_clip = second || parts.family == ModelFamily::kSd2;
  const std::string prefix = "text_model.";
  const std::string tokens = prefix + "embeddings.token_embedding.weight";
  const int64_t width = size_of(weights, tokens, 1, source);
  Json config = {
      {"architectures", Json::array({second ? "CLIPTextModelWithProjection" : "CLIPTextModel"})},
      {"bos_token_id", 0},
      {"eos_token_id", 2},  // as the published configs have it: the end token is found by its rank
      {"hidden_act", open_clip ? "gelu" : "quick_gelu"},
      {"hidden_size", width},
      {"intermediate_size",
       size_of(weights, prefix + "encoder.layers.0.mlp.fc1.weight", 0, source)},
      {"layer_norm_eps", 1e-5},
      {"max_position_embeddings",
       size_of(weights, prefix + "embeddings.position_embedding.weight", 0, source)},
      {"model_type", "clip_text_model"},
      {"num_hidden_layers", count_indices(weights, prefix + "encoder.layers.")},
      {"pad_token_id", 1},
      {"projection_dim", second ? size_of(weights, "text_projection.weight", 0, source) : width},
      {"vocab_size", size_of(weights, tokens, 0, source)},
  };
  if (!overrides.contains("num_attention_heads"))
    config["num_attention_heads"] = heads_of(width, "a text encoder", source);
  return config;
}

Json scheduler_config(ModelFamily family, bool inpainting) {
  const bool pndm = family == ModelFamily::kSd1 || (family == ModelFamily::kSd2 && inpainting);
  Json config = {
      {"_class_name", pndm ? "PNDMScheduler" : facts_of(family).scheduler},
      {"beta_end", 0.012},
      {"beta_schedule", "scaled_linear"},
      {"beta_start", 0.00085},
      {"num_train_timesteps", 1000},
      {"prediction_type", "epsilon"},
      {"steps_offset", 1},
      {"timestep_spacing", "leading"},
      {"trained_betas", nullptr},
  };
  if (family == ModelFamily::kSdxl) {
    config["interpolation_type"] = "linear";
    config["use_karras_sigmas"] = false;
  } else {
    config["set_alpha_to_one"] = false;
    if (pndm) config["skip_prk_steps"] = true;
    if (!pndm) config["clip_sample"] = false;
  }
  return config;
}

}  // namespace molar
