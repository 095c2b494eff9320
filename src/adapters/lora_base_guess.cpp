#include "lora_base_guess.h"

#include <optional>
#include <string_view>
#include <utility>

#include "molar/adapters/lora_key_map.h"

namespace molar {
namespace {

constexpr std::string_view kSd1 = "SD 1.x", kSd2 = "SD 2.x", kSdxl = "SDXL";

/// Module names that only one architecture has.
constexpr std::pair<std::string_view, std::string_view> kForeignModules[] = {
    {"single_transformer_blocks", "Flux"},
    {"double_blocks", "Flux"},
    {"single_blocks", "Flux"},
    {"joint_blocks", "SD 3"},
    {"add_q_proj", "SD 3"},
    {"lora_te3_", "SD 3"},
    {"lora_prior_", "Stable Cascade"},
    {"cap_embedder", "Lumina"},
    {"blocks_0_cross_attn_k", "Wan"},
    {"blocks_0_self_attn_q", "Wan"},
};

/// Width of the text that the UNet attends to: inputs of attn2.to_k and attn2.to_v.
constexpr std::pair<int64_t, std::string_view> kCrossAttentionWidths[] = {
    {768, kSd1}, {1024, kSd2}, {2048, kSdxl}};

/// Width of a text encoder's attention.
constexpr std::pair<int64_t, std::string_view> kTextWidths[] = {
    {768, kSd1}, {1024, kSd2}, {1280, kSdxl}};

/// What metadata begins with: ss_base_model_version (kohya) and modelspec.architecture.
constexpr std::pair<std::string_view, std::string_view> kBaseVersions[] = {
    {"sdxl", kSdxl},
    {"sd_v1", kSd1},
    {"sd_v2", kSd2},
    {"sd_1", kSd1},
    {"sd_2", kSd2},
    {"sd3", "SD 3"},
    {"flux", "Flux"},
    {"stable-diffusion-xl", kSdxl},
    {"stable-diffusion-v1", kSd1},
    {"stable-diffusion-v2", kSd2},
    {"stable-diffusion-3", "SD 3"},
};

/// Inputs of the layer, from the factor that sees them; 0 for other factors.
int64_t input_width(const LoraSuffix& suffix, const std::vector<int64_t>& shape) {
  const bool sees_inputs = suffix.part == LoraPart::kDown ||
                           (suffix.kind == LoraKind::kHadamard && suffix.part == LoraPart::kW1B);
  return sees_inputs && shape.size() >= 2 ? shape[1] : 0;
}

std::optional<std::string> by_width(const auto& rows, int64_t width) {
  for (const auto& [known, base] : rows)
    if (width == known) return std::string(base);
  return std::nullopt;
}

}  // namespace

std::string guess_base_model(const std::map<std::string, SafetensorsEntry>& entries,
                             const std::map<std::string, std::string>& metadata) {
  std::optional<std::string> from_cross_attention, from_text, from_names;
  for (const auto& [key, entry] : entries) {
    const auto parsed = split_lora_key(key);
    if (!parsed) continue;
    const std::string flat = flatten_module_name(parsed->module);
    for (const auto& [part, base] : kForeignModules)
      if (flat.find(part) != std::string::npos) return std::string(base);
    const int64_t width = input_width(*parsed->suffix, entry.shape);
    if (flat.ends_with("attn2_to_k") || flat.ends_with("attn2_to_v"))
      if (const auto base = by_width(kCrossAttentionWidths, width)) from_cross_attention = base;
    const bool second_encoder = flat.starts_with("lora_te2_") ||
                                flat.starts_with("text_encoder_2_") ||
                                flat.find("clip_g_") != std::string::npos;
    if (second_encoder || flat.starts_with("lora_te1_")) from_names = kSdxl;
    if (flat.find("self_attn_") != std::string::npos)
      if (const auto base = by_width(kTextWidths, width); base && !from_text) from_text = base;
  }
  if (from_cross_attention) return *from_cross_attention;
  if (from_names) return *from_names;
  for (const char* field : {"ss_base_model_version", "modelspec.architecture"}) {
    const auto found = metadata.find(field);
    if (found == metadata.end()) continue;
    for (const auto& [start, base] : kBaseVersions)
      if (found->second.starts_with(start)) return std::string(base);
  }
  return from_text.value_or("unknown");
}

}  // namespace molar
