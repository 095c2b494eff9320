// UNet2DConditionConfig::from_json: what diffusers' unet/config.json says, checked value by value.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "config_fields.h"
#include "molar/core/error.h"
#include "molar/models/unet_2d_condition.h"

namespace molar {
namespace {

// Far beyond any real model; keeps sizes computed from a hostile file within int64.
constexpr int64_t kMaxWidth = 1 << 16;
constexpr int64_t kMaxDepth = 64;
constexpr size_t kMaxLevels = 8;

// Settings that change a model in ways molar does not have: only these values (or absence) are
// read.
const std::vector<std::pair<const char*, std::vector<Json>>> kSupportedValues = {
    {"act_fn", {"silu", "swish"}},
    {"addition_embed_type", {"text_time"}},
    {"attention_type", {"default"}},
    {"class_embed_type", {nullptr}},
    {"class_embeddings_concat", {false}},
    {"dual_cross_attention", {false}},
    {"encoder_hid_dim", {nullptr}},
    {"encoder_hid_dim_type", {nullptr}},
    {"mid_block_type", {"UNetMidBlock2DCrossAttn", "UNetMidBlock2D"}},
    {"num_attention_heads", {nullptr}},
    {"num_class_embeds", {nullptr}},
    {"resnet_time_scale_shift", {"default", "scale_shift"}},
    {"time_embedding_act_fn", {nullptr}},
    {"time_embedding_type", {"positional"}},
    {"timestep_post_act", {nullptr}},
};

class UNetConfigReader {
 public:
  UNetConfigReader(const Json& json, const std::string& source)
      : json_(json), config_(json, source) {}

  UNet2DConditionConfig read() {
    for (const auto& [key, values] : kSupportedValues) config_.require_one_of(key, values);
    refuse_null(config_, {"act_fn",
                          "attention_head_dim",
                          "block_out_channels",
                          "center_input_sample",
                          "conv_in_kernel",
                          "conv_out_kernel",
                          "cross_attention_dim",
                          "down_block_types",
                          "downsample_padding",
                          "flip_sin_to_cos",
                          "freq_shift",
                          "in_channels",
                          "layers_per_block",
                          "mid_block_scale_factor",
                          "norm_eps",
                          "norm_num_groups",
                          "only_cross_attention",
                          "out_channels",
                          "resnet_time_scale_shift",
                          "sample_size",
                          "transformer_layers_per_block",
                          "up_block_types",
                          "use_linear_projection"});
    // upcast_attention: diffusers' default attention processor does not look at it. The next five
    // act only in block types that are not supported, dropout in training.
    config_.ignore({"upcast_attention", "resnet_skip_time_act", "resnet_out_scale_factor",
                    "mid_block_only_cross_attention", "cross_attention_norm",
                    "addition_embed_type_num_heads", "dropout"});
    UNet2DConditionConfig out;
    read_levels(out);
    read_scalars(out);
    read_embeddings(out);
    config_.refuse_unread_keys();
    return out;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw FileError(fmt::format("{}: {}", config_.source(), problem));
  }

  int64_t checked(const std::string& key, int64_t value, int64_t low, int64_t high) const {
    if (value < low || value > high)
      fail(fmt::format("'{}' = {} is out of range; wanted {} to {}", key, value, low, high));
    return value;
  }
  int64_t get(const std::string& key, int64_t fallback, int64_t low, int64_t high) const {
    return checked(key, config_.get_or<int64_t>(key, fallback), low, high);
  }
  std::optional<int64_t> get_width(const std::string& key) const {
    const auto value = config_.get_optional<int64_t>(key);
    return value ? std::optional(checked(key, *value, 1, kMaxWidth)) : std::nullopt;
  }
  std::vector<int64_t> get_per_block(const std::string& key, int64_t fallback, int64_t low,
                                     int64_t high) const {
    auto values = config_.get_per_block(key, num_levels_, fallback);
    for (const int64_t value : values) checked(key, value, low, high);
    return values;
  }

  std::vector<bool> read_only_cross_attention() const {
    if (!config_.has("only_cross_attention")) return std::vector<bool>(num_levels_, false);
    if (json_.at("only_cross_attention").is_boolean())
      return std::vector<bool>(num_levels_, config_.get<bool>("only_cross_attention"));
    const auto values = config_.get<std::vector<bool>>("only_cross_attention");
    if (values.size() != num_levels_)
      fail(fmt::format("'only_cross_attention' must be one value or {} (one per block), has {}",
                       num_levels_, values.size()));
    return values;
  }

  // Whether each block of `key` has attention. Names may carry the prefix of old checkpoints.
  std::vector<bool> read_block_types(const std::string& key, std::string_view plain,
                                     std::string_view crossed,
                                     const std::vector<std::string>& fallback) const {
    const auto types = config_.get_or<std::vector<std::string>>(key, fallback);
    if (types.size() != num_levels_)
      fail(fmt::format("'{}' has {} blocks, 'block_out_channels' {}", key, types.size(),
                       num_levels_));
    std::vector<bool> attends;
    for (const std::string& type : types) {
      const std::string_view name =
          std::string_view(type).substr(type.starts_with("UNetRes") ? 7 : 0);
      if (name != plain && name != crossed)
        fail(fmt::format("'{}' has a '{}', which is not supported; wanted '{}' or '{}'", key, type,
                         plain, crossed));
      attends.push_back(name == crossed);
    }
    return attends;
  }

  // Depths of one block's transformers from a number or a list with one number per resnet.
  std::vector<int64_t> read_depths(const std::string& key, const Json& value, size_t count) const {
    const auto depth = [&](const Json& one) {
      if (!one.is_number_integer())
        fail(fmt::format("'{}' must hold whole numbers or lists of them", key));
      return checked(key, one.get<int64_t>(), 0, kMaxDepth);
    };
    if (!value.is_array()) return std::vector<int64_t>(count, depth(value));
    if (value.size() != count)
      fail(fmt::format("'{}' has {} values for a block of {} layers", key, value.size(), count));
    std::vector<int64_t> depths;
    for (const Json& one : value) depths.push_back(depth(one));
    return depths;
  }

  // transformer_layers_per_block: one number, or per block a number or a list with one per layer.
  // Such a list fixes the down path only, reverse_transformer_layers_per_block then gives the up
  // path.
  void read_transformer_layers(UNet2DConditionConfig& out, const std::vector<bool>& down_attends,
                               const std::vector<bool>& up_attends) const {
    const std::string key = "transformer_layers_per_block";
    const std::string reverse_key = "reverse_transformer_layers_per_block";
    const auto per_block = [&](const std::string& name, const Json& fallback) {
      const Json value = config_.has(name) ? json_.at(name) : fallback;
      const Json list = value.is_array() ? value : Json(std::vector<Json>(num_levels_, value));
      if (list.size() != num_levels_)
        fail(fmt::format("'{}' must be one number or {} (one per block), has {}", name, num_levels_,
                         list.size()));
      return list;
    };
    const Json down = per_block(key, 1);
    const bool nested = std::ranges::any_of(down, [](const Json& one) { return one.is_array(); });
    if (nested && !config_.has(reverse_key))
      fail(fmt::format("'{}' has lists inside, so '{}' is needed", key, reverse_key));
    const Json up = per_block(reverse_key, Json(std::vector<Json>(down.rbegin(), down.rend())));

    for (size_t i = 0; i < num_levels_; ++i) {
      UNetLevelConfig& level = out.levels[i];
      const auto count = static_cast<size_t>(level.num_layers);
      if (down_attends[i]) level.down_transformer_layers = read_depths(key, down[i], count);
      const size_t up_index = num_levels_ - 1 - i;
      if (up_attends[up_index])
        level.up_transformer_layers = read_depths(reverse_key, up[up_index], count + 1);
    }
    const Json& mid = down[num_levels_ - 1];  // the mid block has one transformer
    const bool empty_list = mid.is_array() && mid.empty();
    out.mid_transformer_layers =
        read_depths(key, mid.is_array() && !empty_list ? mid[0] : mid, 1).front();
  }

  void read_levels(UNet2DConditionConfig& out) {
    const auto channels =
        config_.get_or<std::vector<int64_t>>("block_out_channels", {320, 640, 1280, 1280});
    num_levels_ = channels.size();
    if (channels.empty() || channels.size() > kMaxLevels)
      fail(fmt::format("'block_out_channels' has {} blocks; wanted 1 to {}", channels.size(),
                       kMaxLevels));
    out.norm_num_groups = get("norm_num_groups", 32, 1, kMaxWidth);
    const auto down_attends = read_block_types(
        "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D",
        {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"});
    const auto up_attends = read_block_types(
        "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D",
        {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"});
    const auto layers = get_per_block("layers_per_block", 2, 1, kMaxDepth);
    const auto heads = get_per_block("attention_head_dim", 8, 1, kMaxWidth);
    const auto only_cross = read_only_cross_attention();
    const auto text_widths = get_per_block("cross_attention_dim", 1280, 1, kMaxWidth);
    if (std::ranges::adjacent_find(text_widths, std::not_equal_to()) != text_widths.end())
      fail("'cross_attention_dim' differs between blocks, but one text serves all");
    out.cross_attention_dim = text_widths.front();

    for (size_t i = 0; i < num_levels_; ++i) {
      checked("block_out_channels", channels[i], 1, kMaxWidth);
      if (channels[i] % out.norm_num_groups != 0)
        fail(
            fmt::format("'block_out_channels' has {}, which 'norm_num_groups' = {} does not divide",
                        channels[i], out.norm_num_groups));
      if (heads[i] > channels[i])
        fail(fmt::format("'attention_head_dim' asks for {} heads in a block of {} channels",
                         heads[i], channels[i]));
      out.levels.push_back({.channels = channels[i],
                            .num_layers = layers[i],
                            .heads = heads[i],
                            .only_cross_attention = only_cross[i],
                            .down_transformer_layers = {},
                            .up_transformer_layers = {}});
    }
    read_transformer_layers(out, down_attends, up_attends);
  }

  void read_scalars(UNet2DConditionConfig& out) const {
    out.sample_size = read_sample_size();
    out.in_channels = get("in_channels", 4, 1, kMaxWidth);
    out.out_channels = get("out_channels", 4, 1, kMaxWidth);
    out.center_input_sample = config_.get_or("center_input_sample", false);
    out.conv_in_kernel = get("conv_in_kernel", 3, 1, 15);
    out.conv_out_kernel = get("conv_out_kernel", 3, 1, 15);
    out.downsample_padding = get("downsample_padding", 1, 0, 1);
    out.norm_eps = config_.get_or("norm_eps", 1e-5);
    out.use_linear_projection = config_.get_or("use_linear_projection", false);
    out.mid_block_scale_factor = config_.get_or("mid_block_scale_factor", 1.0);
    if (out.mid_block_scale_factor == 0.0) fail("'mid_block_scale_factor' must not be 0");
    if (config_.get_or<std::string>("resnet_time_scale_shift", "default") == "scale_shift")
      out.time_scale_shift = TimeScaleShift::kScaleShift;
    if (json_.contains("mid_block_type") && json_.at("mid_block_type").is_null())
      out.mid_block_type = UNetMidBlockType::kNone;
    else if (config_.get_or<std::string>("mid_block_type", "") == "UNetMidBlock2D")
      out.mid_block_type = UNetMidBlockType::kResnet;
  }

  // A number, or height and width; a picture's default size needs one number.
  int64_t read_sample_size() const {
    if (!config_.has("sample_size")) return 64;
    if (!json_.at("sample_size").is_array()) return get("sample_size", 64, 1, kMaxWidth);
    const auto sizes = config_.get<std::vector<int64_t>>("sample_size");
    if (sizes.size() != 2 || sizes[0] != sizes[1])
      fail("'sample_size' must be one number, or the same number twice");
    return checked("sample_size", sizes[0], 1, kMaxWidth);
  }

  void read_embeddings(UNet2DConditionConfig& out) const {
    out.flip_sin_to_cos = config_.get_or("flip_sin_to_cos", true);
    out.freq_shift = config_.get_or("freq_shift", 0.0);
    const int64_t channels = out.levels.front().channels;
    check_frequencies(channels, out.freq_shift);
    out.time_embedding_dim = get_width("time_embedding_dim").value_or(4 * channels);
    out.time_cond_proj_dim = get_width("time_cond_proj_dim");
    const auto sinusoids = get_width("addition_time_embed_dim");
    const auto input = get_width("projection_class_embeddings_input_dim");
    if (!config_.has("addition_embed_type")) return;
    if (!sinusoids || !input)
      fail(
          "'addition_embed_type' = \"text_time\" needs 'addition_time_embed_dim' and "
          "'projection_class_embeddings_input_dim'");
    check_frequencies(*sinusoids, out.freq_shift);
    out.addition_time_embed_dim = sinusoids;
    out.add_embedding_input_dim = *input;
  }

  // The exponents divide by the number of frequencies less the shift.
  void check_frequencies(int64_t num_channels, double freq_shift) const {
    if (static_cast<double>(num_channels / 2) == freq_shift)
      fail(fmt::format("'freq_shift' = {} leaves no frequencies of {} channels", freq_shift,
                       num_channels));
  }

  const Json& json_;
  JsonConfig config_;
  size_t num_levels_ = 0;
};

}  // namespace

UNet2DConditionConfig UNet2DConditionConfig::from_json(const Json& json,
                                                       const std::string& source) {
  return UNetConfigReader(json, source).read();
}

}  // namespace molar
