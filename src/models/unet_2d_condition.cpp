#include "molar/models/unet_2d_condition.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>

#include "molar/core/error.h"

namespace molar {
namespace {

Conv2d same_size_conv(int64_t in_channels, int64_t out_channels, int64_t kernel_size) {
  return Conv2d(Conv2dOptions{.in_channels = in_channels,
                              .out_channels = out_channels,
                              .kernel_size = kernel_size,
                              .padding = (kernel_size - 1) / 2});
}

UNetBlockOptions shared_options(const UNet2DConditionConfig& config, const UNetLevelConfig& level) {
  return {.temb_channels = config.time_embedding_dim,
          .norm_num_groups = config.norm_num_groups,
          .norm_eps = config.norm_eps,
          .time_scale_shift = config.time_scale_shift,
          .heads = level.heads,
          .cross_attention_dim = config.cross_attention_dim,
          .use_linear_projection = config.use_linear_projection,
          .only_cross_attention = level.only_cross_attention};
}

// The last `count` of `states`, which loses them.
std::vector<Tensor> take_last(std::vector<Tensor>& states, size_t count) {
  const auto first = states.end() - static_cast<std::ptrdiff_t>(count);
  std::vector<Tensor> taken(std::make_move_iterator(first), std::make_move_iterator(states.end()));
  states.erase(first, states.end());
  return taken;
}

/// "down_blocks.2.attentions.0.proj_in", "down_blocks." -> 2; nullopt where it starts otherwise.
std::optional<size_t> block_number(std::string_view module, std::string_view list) {
  if (!module.starts_with(list)) return std::nullopt;
  module.remove_prefix(list.size());
  size_t number = 0;
  const auto [end, error] = std::from_chars(module.data(), module.data() + module.size(), number);
  return error == std::errc() && end != module.data() + module.size() && *end == '.'
             ? std::optional(number)
             : std::nullopt;
}

/// The level whose maps the block of `module` works on, 0 the finest.
std::optional<size_t> level_of(const UNet2DConditionConfig& config, std::string_view module) {
  const size_t count = config.levels.size();
  if (module.starts_with("mid_block.")) return count - 1;
  if (const auto down = block_number(module, "down_blocks."); down && *down < count) return *down;
  if (const auto up = block_number(module, "up_blocks."); up && *up < count) return count - 1 - *up;
  return std::nullopt;
}

bool reads_text(std::string_view module, bool only_cross_attention) {
  if (!module.ends_with(".to_k") && !module.ends_with(".to_v")) return false;
  return only_cross_attention || module.find(".attn2.") != std::string_view::npos;
}

}  // namespace

std::optional<MapSize> token_map_size(const UNet2DConditionConfig& config, std::string_view module,
                                      MapSize latents) {
  const auto level = level_of(config, module);
  if (!level || module.find(".attentions.") == std::string_view::npos) return std::nullopt;
  // The middle block has the last level's sizes, but attends to itself in any case.
  const bool only_cross =
      !module.starts_with("mid_block.") && config.levels[*level].only_cross_attention;
  if (reads_text(module, only_cross)) return std::nullopt;
  // Downsample2D: kernel 3, stride 2; without a padding of its own one row and column are added.
  const int64_t padding = config.downsample_padding > 0 ? 2 * config.downsample_padding : 1;
  MapSize size = latents;
  for (size_t i = 0; i < *level; ++i)
    size = {(size.height + padding - 3) / 2 + 1, (size.width + padding - 3) / 2 + 1};
  return size;
}

UNet2DConditionModelImpl::UNet2DConditionModelImpl(const UNet2DConditionConfig& config)
    : config_(config),
      conv_in_(register_module(
          "conv_in",
          same_size_conv(config.in_channels, config.levels[0].channels, config.conv_in_kernel))),
      time_embedding_(register_module(
          "time_embedding", TimestepEmbedding(TimestepEmbeddingOptions{
                                .in_channels = config.levels[0].channels,
                                .time_embed_dim = config.time_embedding_dim,
                                .cond_proj_dim = config.time_cond_proj_dim.value_or(0)}))),
      down_blocks_(register_module("down_blocks", torch::nn::ModuleList())),
      up_blocks_(register_module("up_blocks", torch::nn::ModuleList())),
      conv_norm_out_(register_module(
          "conv_norm_out",
          GroupNorm(config.norm_num_groups, config.levels[0].channels, config.norm_eps))),
      conv_out_(register_module(
          "conv_out",
          same_size_conv(config.levels[0].channels, config.out_channels, config.conv_out_kernel))) {
  if (config.addition_time_embed_dim)
    add_embedding_ = register_module(
        "add_embedding",
        TimestepEmbedding(TimestepEmbeddingOptions{.in_channels = config.add_embedding_input_dim,
                                                   .time_embed_dim = config.time_embedding_dim}));
  add_levels();
}

void UNet2DConditionModelImpl::add_levels() {
  const auto& levels = config_.levels;
  const size_t count = levels.size();
  for (size_t i = 0; i < count; ++i)
    down_blocks_->push_back(
        UNetDownBlock(UNetDownBlockOptions{.in_channels = levels[i == 0 ? 0 : i - 1].channels,
                                           .out_channels = levels[i].channels,
                                           .num_layers = levels[i].num_layers,
                                           .transformer_layers = levels[i].down_transformer_layers,
                                           .add_downsample = i + 1 < count,
                                           .downsample_padding = config_.downsample_padding},
                      shared_options(config_, levels[i])));

  if (config_.mid_block_type != UNetMidBlockType::kNone) {
    UNetBlockOptions shared = shared_options(config_, levels.back());
    shared.output_scale_factor = config_.mid_block_scale_factor;
    shared.only_cross_attention = false;
    const bool attends = config_.mid_block_type == UNetMidBlockType::kCrossAttention;
    mid_block_ = register_module(
        "mid_block",
        UNetMidBlock(levels.back().channels,
                     attends ? std::optional(config_.mid_transformer_layers) : std::nullopt,
                     shared));
  }

  for (size_t i = count; i-- > 0;)
    up_blocks_->push_back(UNetUpBlock(
        UNetUpBlockOptions{.in_channels = levels[i == 0 ? 0 : i - 1].channels,
                           .out_channels = levels[i].channels,
                           .prev_out_channels = levels[i + 1 < count ? i + 1 : i].channels,
                           .num_layers = levels[i].num_layers + 1,
                           .transformer_layers = levels[i].up_transformer_layers,
                           .add_upsample = i > 0},
        shared_options(config_, levels[i])));
}

void UNet2DConditionModelImpl::check_inputs(const Tensor& sample, const Tensor& timesteps,
                                            const UNetConditioning& conditioning) const {
  check_shape(sample, {-1, config_.in_channels, -1, -1}, "the UNet's sample");
  const int64_t batch = sample.size(0);
  if (timesteps.dim() != 1 || (timesteps.size(0) != 1 && timesteps.size(0) != batch))
    throw Error(fmt::format("the UNet's timesteps must be [{}] or [1], are {}", batch,
                            shape_string(timesteps.sizes())));
  const auto require = [](const Tensor& tensor, bool wanted, std::string_view name) {
    if (tensor.defined() != wanted)
      throw Error(fmt::format("the UNet's {} is {}", name,
                              wanted ? "missing, its config asks for it"
                                     : "given, but its config has no place for it"));
  };
  require(conditioning.encoder_hidden_states, true, "encoder_hidden_states");
  check_shape(conditioning.encoder_hidden_states, {batch, -1, config_.cross_attention_dim},
              "the UNet's encoder_hidden_states");
  const bool text_time = config_.addition_time_embed_dim.has_value();
  require(conditioning.text_embeds, text_time, "text_embeds");
  require(conditioning.time_ids, text_time, "time_ids");
  if (text_time) {
    check_shape(conditioning.text_embeds, {batch, -1}, "the UNet's text_embeds");
    check_shape(conditioning.time_ids, {batch, -1}, "the UNet's time_ids");
    const int64_t width = conditioning.text_embeds.size(1) +
                          conditioning.time_ids.size(1) * *config_.addition_time_embed_dim;
    if (width != config_.add_embedding_input_dim)
      throw Error(
          fmt::format("the UNet's text_embeds and embedded time_ids have {} values together, "
                      "its config asks for {}",
                      width, config_.add_embedding_input_dim));
  }
  if (conditioning.timestep_cond.defined()) {
    require(conditioning.timestep_cond, config_.time_cond_proj_dim.has_value(), "timestep_cond");
    check_shape(conditioning.timestep_cond, {batch, *config_.time_cond_proj_dim},
                "the UNet's timestep_cond");
  }
}

void UNet2DConditionModelImpl::set_activations(Activations activations) {
  for (size_t i = 0; i < down_blocks_->size(); ++i)
    down_blocks_->ptr<UNetDownBlockImpl>(i)->set_activations(activations);
  if (mid_block_) mid_block_->set_activations(activations);
  for (size_t i = 0; i < up_blocks_->size(); ++i)
    up_blocks_->ptr<UNetUpBlockImpl>(i)->set_activations(activations);
}

// Returns [B, time_embedding_dim].
Tensor UNet2DConditionModelImpl::embed_time(const Tensor& sample, const Tensor& timesteps,
                                            const UNetConditioning& conditioning) {
  const int64_t batch = sample.size(0);
  SinusoidOptions sinusoid{.num_channels = config_.levels[0].channels,
                           .flip_sin_to_cos = config_.flip_sin_to_cos,
                           .freq_shift = config_.freq_shift};
  const Tensor projected =
      sinusoidal_embedding(timesteps.to(sample.device()).expand(batch), sinusoid);
  Tensor temb = time_embedding_(projected.to(sample.scalar_type()), conditioning.timestep_cond);
  if (!add_embedding_) return temb;

  sinusoid.num_channels = *config_.addition_time_embed_dim;
  const Tensor sizes = sinusoidal_embedding(conditioning.time_ids.flatten(), sinusoid);
  const Tensor added = at::cat({conditioning.text_embeds, sizes.reshape({batch, -1})}, /*dim=*/1);
  return temb + add_embedding_(added.to(temb.scalar_type()));
}

Tensor UNet2DConditionModelImpl::forward(const Tensor& sample, const Tensor& timesteps,
                                         const UNetConditioning& conditioning,
                                         const UNetObserver& observe) {
  check_inputs(sample, timesteps, conditioning);
  const auto report = [&observe](const std::string& part, const Tensor& result) {
    if (observe) observe(part, result);
  };
  const Tensor& text = conditioning.encoder_hidden_states;

  const Tensor temb = embed_time(sample, timesteps, conditioning);
  report("time_embedding", temb);
  const Tensor activated_temb = at::silu(temb);  // every resnet applies it first: once is enough

  Tensor x = in_image_layout(sample);
  if (config_.center_input_sample) x = 2 * x - 1;
  x = conv_in_(x);
  report("conv_in", x);

  std::vector<Tensor> skips = {x};
  for (size_t i = 0; i < down_blocks_->size(); ++i) {
    auto states = down_blocks_->ptr<UNetDownBlockImpl>(i)->forward(x, activated_temb, text);
    x = states.back();
    report(fmt::format("down_blocks.{}", i), x);
    std::ranges::move(states, std::back_inserter(skips));
  }
  if (mid_block_) {
    x = mid_block_->forward(std::move(x), activated_temb, text);
    report("mid_block", x);
  }
  for (size_t i = 0; i < up_blocks_->size(); ++i) {
    const auto block = up_blocks_->ptr<UNetUpBlockImpl>(i);
    auto block_skips = take_last(skips, block->num_layers());
    // Sizes that 2^levels does not divide: grow to the size of the next skip connection.
    std::optional<MapSize> size;
    if (!skips.empty()) size = MapSize{skips.back().size(2), skips.back().size(3)};
    x = block->forward(std::move(x), std::move(block_skips), activated_temb, text, size);
    report(fmt::format("up_blocks.{}", i), x);
  }
  x = conv_out_(silu_reusing(conv_norm_out_(x)));
  report("conv_out", x);
  return x;
}

}  // namespace molar
