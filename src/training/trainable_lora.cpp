#include "molar/training/trainable_lora.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "molar/core/error.h"
#include "molar/core/random.h"
#include "molar/models/functional.h"
#include "molar/training/training_order.h"

namespace molar {
namespace {

struct TargetRow {
  LoraTarget target;
  std::string_view component_start, module_end;
};

constexpr std::string_view kText = "text_encoder";  // and text_encoder_2
constexpr TargetRow kTargetRows[] = {
    {LoraTarget::kAttention, "unet", ".to_q"},
    {LoraTarget::kAttention, "unet", ".to_k"},
    {LoraTarget::kAttention, "unet", ".to_v"},
    {LoraTarget::kAttention, "unet", ".to_out.0"},
    {LoraTarget::kFeedForward, "unet", ".ff.net.0.proj"},
    {LoraTarget::kFeedForward, "unet", ".ff.net.2"},
    {LoraTarget::kFeedForward, "unet", ".proj_in"},
    {LoraTarget::kFeedForward, "unet", ".proj_out"},
    {LoraTarget::kConvolution, "unet", ".conv1"},
    {LoraTarget::kConvolution, "unet", ".conv2"},
    {LoraTarget::kConvolution, "unet", ".conv_shortcut"},
    {LoraTarget::kConvolution, "unet", ".conv"},
    {LoraTarget::kTextEncoder, kText, ".q_proj"},
    {LoraTarget::kTextEncoder, kText, ".k_proj"},
    {LoraTarget::kTextEncoder, kText, ".v_proj"},
    {LoraTarget::kTextEncoder, kText, ".out_proj"},
};

std::optional<LoraTarget> target_of(const LayerName& name) {
  for (const auto& [target, component_start, module_end] : kTargetRows)
    if (name.component.starts_with(component_start) && name.module.ends_with(module_end))
      return target;
  return std::nullopt;
}

TrainableFactors draw_factors(const Tensor& weight, int64_t rank, RandomSource& random) {
  std::vector<int64_t> down_shape = weight.sizes().vec(), up_shape = {weight.size(0), rank};
  down_shape[0] = rank;
  up_shape.resize(down_shape.size(), 1);
  const double bound = 1.0 / std::sqrt(static_cast<double>(weight[0].numel()));
  const auto leaf = [&](const Tensor& values) {
    return values.to(weight.device()).requires_grad_();
  };
  return {leaf(random.uniform(down_shape, -bound, bound)), leaf(torch::zeros(up_shape))};
}

/// float32 whatever the model computes in: steps of the factors are small against their size.
Tensor low_rank_path(const AdaptableLayer& layer, const TrainableFactors& factors, double scale,
                     const Tensor& x) {
  const Tensor inner = layer.project(x.to(torch::kFloat32), factors.down);
  const bool tokens = inner.dim() < 4;
  const Tensor outer =
      tokens ? at::linear(inner, factors.up.flatten(1)) : at::conv2d(inner, factors.up);
  return (outer * scale).to(x.scalar_type());
}

}  // namespace

TrainableLora::TrainableLora(const ModelLayers& layers, const LoraTrainingOptions& options)
    : scale_(options.effective_alpha() / static_cast<double>(options.rank)) {
  RandomSource random(stream_seed(options.seed, RandomStream::kFactors, 0));
  std::set<LoraTarget> missing = options.targets;
  for (const auto& [component, index] : layers.components)
    for (const auto& [module, layer] : index) {
      const LayerName name{component, module};
      const auto target = target_of(name);
      if (!target || !options.targets.contains(*target)) continue;
      missing.erase(*target);
      const TrainableFactors& factors =
          factors_.emplace(name, draw_factors(layer->weight(), options.rank, random)).first->second;
      layer->set_residual(
          [layer = layer, factors, scale = scale_](const Tensor& x, const Tensor& y) {
            return add_reusing(y, low_rank_path(*layer, factors, scale, x));
          });
      attached_.push_back(layer);
    }
  if (!missing.empty())
    throw ConfigError(fmt::format("--target {}: the model has no such layer",
                                  lora_target_names().at(static_cast<size_t>(*missing.begin()))));
}

TrainableLora::~TrainableLora() {
  for (AdaptableLayer* layer : attached_) layer->set_residual({});
}

std::vector<Tensor> TrainableLora::parameters() const {
  std::vector<Tensor> parameters;
  for (const auto& [name, factors] : factors_) {
    parameters.push_back(factors.down);
    parameters.push_back(factors.up);
  }
  return parameters;
}

LoraWeights TrainableLora::weights() const {
  LoraWeights weights;
  for (const auto& [name, factors] : factors_) {
    std::vector<int64_t> shape = factors.down.sizes().vec();
    shape[0] = factors.up.size(0);
    weights.layers[name] = {LowRankFactors{factors.down.detach(), factors.up.detach(), {}}, scale_,
                            shape};
  }
  return weights;
}

}  // namespace molar
