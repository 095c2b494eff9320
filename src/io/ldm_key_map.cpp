#include "molar/io/ldm_key_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <span>

namespace molar {
namespace {

struct Rename {
  std::string_view from, to;
};

constexpr Rename kUnetTop[] = {
    {"time_embed.0", "time_embedding.linear_1"},
    {"time_embed.2", "time_embedding.linear_2"},
    {"label_emb.0.0", "add_embedding.linear_1"},
    {"label_emb.0.2", "add_embedding.linear_2"},
    {"input_blocks.0.0", "conv_in"},
    {"out.0", "conv_norm_out"},
    {"out.2", "conv_out"},
};
constexpr Rename kUnetResnet[] = {
    {"in_layers.0", "norm1"},  {"in_layers.2", "conv1"},  {"emb_layers.1", "time_emb_proj"},
    {"out_layers.0", "norm2"}, {"out_layers.3", "conv2"}, {"skip_connection", "conv_shortcut"},
};
constexpr Rename kUnetAttention[] = {
    {"norm", "norm"},
    {"proj_in", "proj_in"},
    {"proj_out", "proj_out"},
    {"transformer_blocks", "transformer_blocks"},
};
constexpr Rename kUnetDownsampler[] = {{"op", "downsamplers.0.conv"}};
constexpr Rename kUnetUpsampler[] = {{"conv", "upsamplers.0.conv"}};

constexpr Rename kVaeTop[] = {
    {"quant_conv", "quant_conv"},
    {"post_quant_conv", "post_quant_conv"},
};
constexpr Rename kVaeCoderTop[] = {
    {"conv_in", "conv_in"}, {"conv_out", "conv_out"}, {"norm_out", "conv_norm_out"}};
constexpr Rename kVaeResnet[] = {
    {"norm1", "norm1"},
    {"conv1", "conv1"},
    {"norm2", "norm2"},
    {"conv2", "conv2"},
    {"nin_shortcut", "conv_shortcut"},
};
constexpr Rename kVaeAttention[] = {
    {"norm", "group_norm"}, {"q", "to_q"}, {"k", "to_k"}, {"v", "to_v"}, {"proj_out", "to_out.0"}};
constexpr Rename kVaeMid[] = {
    {"block_1", "mid_block.resnets.0"},
    {"block_2", "mid_block.resnets.1"},
};

constexpr Rename kOpenClipTop[] = {
    {"token_embedding", "text_model.embeddings.token_embedding"},
    {"ln_final", "text_model.final_layer_norm"},
};
constexpr Rename kOpenClipLayer[] = {
    {"ln_1", "layer_norm1"},
    {"ln_2", "layer_norm2"},
    {"mlp.c_fc", "mlp.fc1"},
    {"mlp.c_proj", "mlp.fc2"},
    {"attn.out_proj", "self_attn.out_proj"},
};

/// Reads a dotted name from the left; every take() removes what it matched.
class DottedName {
 public:
  explicit DottedName(std::string_view text) : rest_(text) {}

  bool take(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    if (rest_.size() > word.size() && rest_[word.size()] != '.') return false;
    rest_.remove_prefix(std::min(rest_.size(), word.size() + 1));
    return true;
  }
  std::optional<int64_t> take_index() {
    int64_t value = 0;
    const char* const end = rest_.data() + rest_.size();
    const auto [stop, error] = std::from_chars(rest_.data(), end, value);
    if (error != std::errc() || value < 0 || (stop != end && *stop != '.')) return std::nullopt;
    rest_.remove_prefix(static_cast<size_t>(stop - rest_.data()) + (stop == end ? 0 : 1));
    return value;
  }
  /// The name under `prefix` with its first words renamed by the table; the rest follows as it is.
  std::optional<std::string> renamed(std::string_view prefix, std::span<const Rename> table) {
    if (rest_.empty()) return std::string(prefix);
    for (const auto& [from, to] : table)
      if (take(from)) return join(prefix, to);
    return std::nullopt;
  }

 private:
  std::string join(std::string_view prefix, std::string_view name) const {
    std::string out(prefix);
    for (const std::string_view part : {name, rest_})
      if (!part.empty()) out.append(out.empty() ? "" : ".").append(part);
    return out;
  }
  std::string_view rest_;
};

std::optional<std::string> unet_input_block(DottedName name, int64_t layers_per_block) {
  const auto i = name.take_index();
  const auto j = name.take_index();
  if (!i || !j || *i < 1) return std::nullopt;
  const int64_t block = (*i - 1) / (layers_per_block + 1);
  const int64_t layer = (*i - 1) % (layers_per_block + 1);
  const std::string prefix = fmt::format("down_blocks.{}", block);
  if (layer == layers_per_block)
    return *j == 0 ? name.renamed(prefix, kUnetDownsampler) : std::nullopt;
  if (*j == 0) return name.renamed(fmt::format("{}.resnets.{}", prefix, layer), kUnetResnet);
  if (*j == 1) return name.renamed(fmt::format("{}.attentions.{}", prefix, layer), kUnetAttention);
  return std::nullopt;
}

std::optional<std::string> unet_middle_block(DottedName name) {
  const auto i = name.take_index();
  if (i == 0) return name.renamed("mid_block.resnets.0", kUnetResnet);
  if (i == 1) return name.renamed("mid_block.attentions.0", kUnetAttention);
  if (i == 2) return name.renamed("mid_block.resnets.1", kUnetResnet);
  return std::nullopt;
}

std::optional<std::string> unet_output_block(DottedName name, int64_t layers_per_block) {
  const auto i = name.take_index();
  const auto j = name.take_index();
  if (!i || !j) return std::nullopt;
  const int64_t block = *i / (layers_per_block + 1);
  const int64_t layer = *i % (layers_per_block + 1);
  const std::string prefix = fmt::format("up_blocks.{}", block);
  if (*j == 0) return name.renamed(fmt::format("{}.resnets.{}", prefix, layer), kUnetResnet);
  // The upsampler follows the attention where there is one, else the resnet: index 2 or 1.
  if (layer == layers_per_block && (*j == 1 || *j == 2))
    if (auto upsampler = DottedName(name).renamed(prefix, kUnetUpsampler);
        upsampler && *upsampler != prefix)
      return upsampler;
  if (*j == 1) return name.renamed(fmt::format("{}.attentions.{}", prefix, layer), kUnetAttention);
  return std::nullopt;
}

/// `name` after "encoder." or "decoder."; `coder` is that word.
std::optional<std::string> vae_coder_name(DottedName name, const std::string& coder,
                                          int64_t num_blocks) {
  const bool encoder = coder == "encoder";
  if (name.take(encoder ? "down" : "up")) {
    const auto level = name.take_index();
    if (!level || *level >= num_blocks) return std::nullopt;
    const std::string prefix = encoder
                                   ? fmt::format("encoder.down_blocks.{}", *level)
                                   : fmt::format("decoder.up_blocks.{}", num_blocks - 1 - *level);
    if (name.take("block")) {
      const auto layer = name.take_index();
      if (!layer) return std::nullopt;
      return name.renamed(fmt::format("{}.resnets.{}", prefix, *layer), kVaeResnet);
    }
    constexpr Rename kDown[] = {{"downsample.conv", "downsamplers.0.conv"}};
    constexpr Rename kUp[] = {{"upsample.conv", "upsamplers.0.conv"}};
    return name.renamed(prefix, encoder ? std::span(kDown) : std::span(kUp));
  }
  if (name.take("mid")) {
    if (name.take("attn_1")) return name.renamed(coder + ".mid_block.attentions.0", kVaeAttention);
    for (const auto& [from, to] : kVaeMid)
      if (name.take(from)) return name.renamed(fmt::format("{}.{}", coder, to), kVaeResnet);
    return std::nullopt;
  }
  return name.renamed(coder, kVaeCoderTop);
}

}  // namespace

std::optional<std::string> unet_name_from_ldm(std::string_view name, int64_t layers_per_block) {
  DottedName dotted(name);
  if (const auto top = DottedName(name).renamed("", kUnetTop); top && !top->empty()) return top;
  if (dotted.take("input_blocks")) return unet_input_block(dotted, layers_per_block);
  if (dotted.take("middle_block")) return unet_middle_block(dotted);
  if (dotted.take("output_blocks")) return unet_output_block(dotted, layers_per_block);
  return std::nullopt;
}

std::optional<std::string> vae_name_from_ldm(std::string_view name, int64_t num_blocks) {
  if (name.empty()) return std::nullopt;
  for (const char* const coder : {"encoder", "decoder"}) {
    DottedName dotted(name);
    if (dotted.take(coder)) return vae_coder_name(dotted, coder, num_blocks);
  }
  return DottedName(name).renamed("", kVaeTop);
}

std::optional<OpenClipName> text_name_from_open_clip(std::string_view name) {
  constexpr std::string_view kPositions = "text_model.embeddings.position_embedding.weight";
  if (name == "positional_embedding") return OpenClipName{std::string(kPositions)};
  if (name == "text_projection")
    return OpenClipName{"text_projection.weight", TensorUse::kTransposed};
  DottedName dotted(name);
  if (dotted.take("transformer.resblocks")) {
    const auto layer = dotted.take_index();
    if (!layer) return std::nullopt;
    const std::string prefix = fmt::format("text_model.encoder.layers.{}", *layer);
    if (dotted.take("attn.in_proj_weight"))
      return OpenClipName{prefix + ".self_attn.{}_proj.weight", TensorUse::kSplitQkv};
    if (dotted.take("attn.in_proj_bias"))
      return OpenClipName{prefix + ".self_attn.{}_proj.bias", TensorUse::kSplitQkv};
    if (auto renamed = dotted.renamed(prefix, kOpenClipLayer)) return OpenClipName{*renamed};
    return std::nullopt;
  }
  if (name.empty()) return std::nullopt;
  if (auto top = dotted.renamed("", kOpenClipTop)) return OpenClipName{*top};
  return std::nullopt;
}

}  // namespace molar
