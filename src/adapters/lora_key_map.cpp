#include "molar/adapters/lora_key_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace molar {
namespace {

using enum LoraPart;
using enum LoraKind;

constexpr std::string_view kDora = "DoRA";
constexpr std::string_view kOft = "OFT or BOFT";
constexpr std::string_view kIa3 = "(IA)3";
constexpr std::string_view kGlora = "GLoRA";
constexpr std::string_view kFull = "a full difference of weights";
constexpr std::string_view kNorm = "a change of normalisation layers";
constexpr std::string_view kBias = "a change of biases";
constexpr std::string_view kEmbedding = "a change of embeddings";

constexpr LoraSuffix kSuffixes[] = {
    // kohya sd-scripts and everything after it
    {".lora_down.weight", kDown, kLowRank},
    {".lora_up.weight", kUp, kLowRank},
    {".lora_mid.weight", kMid, kLowRank},
    {".alpha", kAlpha},
    {".scale", kScale},
    // peft; '*' is the adapter's name, which peft has in memory and some tools save
    {".lora_A.weight", kDown, kLowRank, "PEFT names"},
    {".lora_B.weight", kUp, kLowRank, "PEFT names"},
    {".lora_A.*.weight", kDown, kLowRank, "PEFT names"},
    {".lora_B.*.weight", kUp, kLowRank, "PEFT names"},
    {".lora_A", kDown, kLowRank, "PEFT names"},
    {".lora_B", kUp, kLowRank, "PEFT names"},
    // diffusers: attention processors (to_q_lora), then patched layers, then text encoders
    {"_lora.down.weight", kDown, kLowRank, "attention processors"},
    {"_lora.up.weight", kUp, kLowRank, "attention processors"},
    {".lora.down.weight", kDown, kLowRank},
    {".lora.up.weight", kUp, kLowRank},
    {".lora_linear_layer.down.weight", kDown, kLowRank},
    {".lora_linear_layer.up.weight", kUp, kLowRank},
    // LyCORIS
    {".hada_w1_a", kW1A, kHadamard},
    {".hada_w1_b", kW1B, kHadamard},
    {".hada_w2_a", kW2A, kHadamard},
    {".hada_w2_b", kW2B, kHadamard},
    {".hada_t1", kT1, kHadamard},
    {".hada_t2", kT2, kHadamard},
    {".lokr_w1", kW1, kKronecker},
    {".lokr_w1_a", kW1A, kKronecker},
    {".lokr_w1_b", kW1B, kKronecker},
    {".lokr_w2", kW2, kKronecker},
    {".lokr_w2_a", kW2A, kKronecker},
    {".lokr_w2_b", kW2B, kKronecker},
    {".lokr_t2", kT2, kKronecker},
    // refused by name
    {".dora_scale", kUnsupported, kAny, "", kDora},
    {".lora_magnitude_vector", kUnsupported, kAny, "", kDora},
    {".lora_magnitude_vector.weight", kUnsupported, kAny, "", kDora},
    {".lora_magnitude_vector.*", kUnsupported, kAny, "", kDora},
    {".lora_magnitude_vector.*.weight", kUnsupported, kAny, "", kDora},
    {".oft_blocks", kUnsupported, kAny, "", kOft},
    {".oft_diag", kUnsupported, kAny, "", kOft},
    {".oft_R.weight", kUnsupported, kAny, "", kOft},
    {".oft_r", kUnsupported, kAny, "", kOft},
    {".boft_R", kUnsupported, kAny, "", kOft},
    {".boft_s", kUnsupported, kAny, "", kOft},
    {".rescale", kUnsupported, kAny, "", kOft},
    {".ia3_l", kUnsupported, kAny, "", kIa3},
    {".on_input", kUnsupported, kAny, "", kIa3},
    {".a1.weight", kUnsupported, kAny, "", kGlora},
    {".a2.weight", kUnsupported, kAny, "", kGlora},
    {".b1.weight", kUnsupported, kAny, "", kGlora},
    {".b2.weight", kUnsupported, kAny, "", kGlora},
    {".bm.weight", kUnsupported, kAny, "", kGlora},
    {".diff", kUnsupported, kAny, "", kFull},
    {".diff_b", kUnsupported, kAny, "", kFull},
    {".set_weight", kUnsupported, kAny, "", kFull},
    {".reshape_weight", kUnsupported, kAny, "", kFull},
    {".w_norm", kUnsupported, kAny, "", kNorm},
    {".b_norm", kUnsupported, kAny, "", kNorm},
    {".lora_up.bias", kUnsupported, kAny, "", kBias},
    {".lora_B.bias", kUnsupported, kAny, "", kBias},
    {".lora_B.*.bias", kUnsupported, kAny, "", kBias},
    {".lora_embedding_A", kUnsupported, kAny, "", kEmbedding},
    {".lora_embedding_B", kUnsupported, kAny, "", kEmbedding},
    {".lora_embedding_A.*", kUnsupported, kAny, "", kEmbedding},
    {".lora_embedding_B.*", kUnsupported, kAny, "", kEmbedding},
};

// A row that starts with another row's text stands before it.
constexpr LoraPrefix kPrefixes[] = {
    {"lora_unet_", "unet", "kohya"},
    {"lora_te1_", "text_encoder", "kohya"},
    {"lora_te2_", "text_encoder_2", "kohya"},
    {"lora_te_", "text_encoder", "kohya"},
    {"lycoris_", "", "LyCORIS"},
    {"unet.base_model.model.", "unet", "PEFT"},
    {"unet.unet.", "unet", "diffusers (unet.unet)"},
    {"unet.", "unet", "diffusers"},
    {"text_encoder_2.", "text_encoder_2", "diffusers"},
    {"text_encoder.", "text_encoder", "diffusers"},
    {"base_model.model.", "", "PEFT"},
    {"model.diffusion_model.", "unet", "ComfyUI"},
    {"diffusion_model.", "unet", "ComfyUI"},
    {"text_encoders.clip_l.transformer.", "text_encoder", "ComfyUI"},
    {"text_encoders.clip_l.", "text_encoder", "ComfyUI"},
    {"text_encoders.clip_h.transformer.", "text_encoder", "ComfyUI"},
    {"text_encoders.clip_h.", "text_encoder", "ComfyUI"},
    {"text_encoders.clip_g.transformer.", "text_encoder_2", "ComfyUI"},
    {"text_encoders.clip_g.", "text_encoder_2", "ComfyUI"},
    {"", "", "diffusers (one component)"},
};

/// diffusers' name -> original name, for what stands outside the numbered blocks.
constexpr std::pair<std::string_view, std::string_view> kLdmFixed[] = {
    {"conv_in", "input_blocks.0.0"},
    {"conv_out", "out.2"},
    {"time_embedding.linear_1", "time_embed.0"},
    {"time_embedding.linear_2", "time_embed.2"},
    {"add_embedding.linear_1", "label_emb.0.0"},
    {"add_embedding.linear_2", "label_emb.0.2"},
    {"mid_block.resnets.0", "middle_block.0"},
    {"mid_block.attentions.0", "middle_block.1"},
    {"mid_block.resnets.1", "middle_block.2"},
};

/// The same inside a residual block.
constexpr std::pair<std::string_view, std::string_view> kLdmResnet[] = {
    {"conv1", "in_layers.2"},
    {"time_emb_proj", "emb_layers.1"},
    {"conv2", "out_layers.3"},
    {"conv_shortcut", "skip_connection"},
};

/// Other names of one layer: (what its name ends in, what a file may write instead).
constexpr std::pair<std::string_view, std::string_view> kLayerAliases[] = {
    {".to_out.0", ".to_out"},                  // diffusers' attention processors: to_out_lora
    {".self_attn.q_proj", ".self_attn.to_q"},  // the same for text encoders
    {".self_attn.k_proj", ".self_attn.to_k"},
    {".self_attn.v_proj", ".self_attn.to_v"},
    {".self_attn.out_proj", ".self_attn.to_out"},
};

constexpr std::string_view kTextModelPrefix = "text_model.";

/// Where `suffix` begins in `key`, or npos where the key does not end in it.
size_t suffix_position(std::string_view key, std::string_view suffix) {
  const size_t star = suffix.find('*');
  if (star == std::string_view::npos)
    return key.ends_with(suffix) ? key.size() - suffix.size() : std::string_view::npos;
  const std::string_view head = suffix.substr(0, star), tail = suffix.substr(star + 1);
  if (!key.ends_with(tail)) return std::string_view::npos;
  const std::string_view rest = key.substr(0, key.size() - tail.size());
  const size_t dot = rest.rfind('.');
  if (dot == std::string_view::npos || dot + 1 == rest.size()) return std::string_view::npos;
  const std::string_view before = rest.substr(0, dot + 1);
  return before.ends_with(head) ? before.size() - head.size() : std::string_view::npos;
}

bool any_layer_below(const LayerIndex& index, const std::string& prefix) {
  const auto found = index.lower_bound(prefix);
  return found != index.end() && found->first.starts_with(prefix);
}

/// How many residual blocks stand in `<side>_blocks.<block>`.
int64_t count_resnets(const LayerIndex& unet, std::string_view side, int64_t block) {
  int64_t count = 0;
  while (any_layer_below(unet, fmt::format("{}_blocks.{}.resnets.{}.", side, block, count)))
    ++count;
  return count;
}

/// "down_blocks.1.attentions.0.rest" taken apart.
struct BlockName {
  std::string_view side;  // "down", "up"
  int64_t block, index;
  std::string_view kind;  // "resnets", "attentions", "downsamplers", "upsamplers"
  std::string_view rest;
};

std::optional<BlockName> split_block_name(std::string_view module) {
  std::array<std::string_view, 4> parts;
  for (std::string_view& part : parts) {
    const size_t dot = module.find('.');
    if (dot == std::string_view::npos) return std::nullopt;
    part = module.substr(0, dot);
    module.remove_prefix(dot + 1);
  }
  BlockName name{.side = parts[0], .block = 0, .index = 0, .kind = parts[2], .rest = module};
  if (!name.side.ends_with("_blocks")) return std::nullopt;
  name.side.remove_suffix(std::string_view("_blocks").size());
  const auto is_number = [](std::string_view text, int64_t& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size();
  };
  if (!is_number(parts[1], name.block) || !is_number(parts[3], name.index)) return std::nullopt;
  return name;
}

std::string ldm_resnet_part(std::string_view rest) {
  for (const auto& [ours, theirs] : kLdmResnet)
    if (rest == ours) return std::string(theirs);
  return std::string(rest);
}

}  // namespace

std::span<const LoraSuffix> lora_suffixes() { return kSuffixes; }
std::span<const LoraPrefix> lora_prefixes() { return kPrefixes; }

std::optional<LoraKey> split_lora_key(std::string_view key) {
  for (const LoraSuffix& suffix : kSuffixes) {
    const size_t position = suffix_position(key, suffix.text);
    if (position != std::string_view::npos && position != 0)
      return LoraKey{.module = key.substr(0, position), .suffix = &suffix};
  }
  return std::nullopt;
}

std::string flatten_module_name(std::string_view module) {
  constexpr std::string_view kProcessor = ".processor";
  std::string flat(module);
  if (const size_t at = flat.find(kProcessor); at != std::string::npos)
    flat.erase(at, kProcessor.size());
  std::replace(flat.begin(), flat.end(), '.', '_');
  return flat;
}

std::optional<std::string> ldm_module_name(const std::string& module, const LayerIndex& unet) {
  for (const auto& [ours, theirs] : kLdmFixed) {
    if (module == ours) return std::string(theirs);
    if (!module.starts_with(std::string(ours) + ".")) continue;
    const std::string_view rest = std::string_view(module).substr(ours.size() + 1);
    return fmt::format("{}.{}", theirs, ldm_resnet_part(rest));
  }
  const std::optional<BlockName> name = split_block_name(module);
  if (!name) return std::nullopt;
  const bool is_down = name->side == "down";
  // Blocks are numbered through: each residual block (with its attention) is one; a downsampler is
  // one of its own, an upsampler belongs to the last residual block of its level.
  int64_t number = is_down ? 1 : 0;
  for (int64_t block = 0; block < name->block; ++block)
    number += count_resnets(unet, name->side, block) + (is_down ? 1 : 0);
  const std::string_view blocks = is_down ? "input_blocks" : "output_blocks";
  if (name->kind == "resnets")
    return fmt::format("{}.{}.0.{}", blocks, number + name->index, ldm_resnet_part(name->rest));
  if (name->kind == "attentions")
    return fmt::format("{}.{}.1.{}", blocks, number + name->index, name->rest);
  number += count_resnets(unet, name->side, name->block);
  if (name->kind == "downsamplers") return fmt::format("{}.{}.0.op", blocks, number);
  const bool has_attention =
      any_layer_below(unet, fmt::format("up_blocks.{}.attentions.", name->block));
  return fmt::format("{}.{}.{}.{}", blocks, number - 1, has_attention ? 2 : 1, name->rest);
}

LoraModuleMap::LoraModuleMap(const ModelLayers& layers) {
  for (const auto& [component, index] : layers.components) {
    auto& spellings = components_[component];
    const auto add = [&](const std::string& spelling, const std::string& module, bool is_ldm) {
      spellings.try_emplace(flatten_module_name(spelling), Entry{module, is_ldm});
    };
    for (const auto& [module, layer] : index) {
      std::vector<std::string> names{module};
      for (const auto& [ours, theirs] : kLayerAliases)
        if (module.ends_with(ours))
          names.push_back(module.substr(0, module.size() - ours.size()).append(theirs));
      for (const std::string& name : names) {
        add(name, module, /*is_ldm=*/false);
        if (name.starts_with(kTextModelPrefix))
          add(name.substr(kTextModelPrefix.size()), module, /*is_ldm=*/false);
        if (component != "unet") continue;
        if (const auto ldm = ldm_module_name(name, index)) add(*ldm, module, /*is_ldm=*/true);
      }
    }
  }
}

std::optional<LoraModuleMap::Hit> LoraModuleMap::find(const LoraKey& key,
                                                      std::string_view component_hint) const {
  constexpr std::string_view kComponents[] = {"unet", "text_encoder", "text_encoder_2"};
  for (const LoraPrefix& prefix : kPrefixes) {
    if (!key.module.starts_with(prefix.text)) continue;
    const std::string flat = flatten_module_name(key.module.substr(prefix.text.size()));
    for (const std::string_view component : kComponents) {
      const std::string_view wanted = prefix.component.empty() ? component_hint : prefix.component;
      if (!wanted.empty() && wanted != component) continue;
      const auto spellings = components_.find(std::string(component));
      if (spellings == components_.end()) continue;
      const auto entry = spellings->second.find(flat);
      if (entry == spellings->second.end()) continue;
      std::string family(prefix.family);
      if (family == "kohya" && entry->second.is_ldm) family += " (LDM block names)";
      if (family == "diffusers" && !key.suffix->dialect.empty())
        family += fmt::format(" ({})", key.suffix->dialect);
      return Hit{{std::string(component), entry->second.module}, family};
    }
  }
  return std::nullopt;
}

}  // namespace molar
