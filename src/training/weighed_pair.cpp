#include "weighed_pair.h"

#include <ATen/ATen.h>

#include "molar/adapters/low_rank.h"
#include "molar/models/functional.h"

namespace molar {
namespace {

/// up(down(x)), float32 whatever the model computes in; see trainable_lora.cpp.
Tensor low_rank_path(const AdaptableLayer& target, const LoraMatrices& matrices,
                     const std::vector<int64_t>& weight_shape, const Tensor& x) {
  std::vector<int64_t> down_shape = weight_shape;
  down_shape[0] = matrices.down.size(0);
  const Tensor inner = target.project(x, matrices.down.view(down_shape));
  return inner.dim() < 4 ? at::linear(inner, matrices.up)
                         : at::conv2d(inner, matrices.up.unsqueeze(-1).unsqueeze(-1));
}

}  // namespace

WeighedPair::WeighedPair(const LayerIndex& layers, const LoraWeights& subject,
                         const LoraWeights& style) {
  for (const auto& [module, target] : layers) {
    const LayerName name{"unet", module};
    const auto factors = [&](const LoraWeights& lora) -> std::optional<LoraMatrices> {
      const auto found = lora.layers.find(name);
      if (found == lora.layers.end()) return std::nullopt;
      const LoraMatrices own = found->second.matrices();
      const at::Device device = target->weight().device();
      return LoraMatrices{.down = own.down.to(device), .up = own.up.to(device)};
    };
    Layer layer{.subject = factors(subject),
                .style = factors(style),
                .weight_shape = target->weight().sizes().vec()};
    if (!layer.subject && !layer.style) continue;
    const Layer& kept = layers_.emplace(name, std::move(layer)).first->second;
    target->set_residual([this, target = target, &kept](const Tensor& x, const Tensor& y) {
      return add_reusing(y, residual(*target, kept, x));
    });
    attached_.push_back(target);
  }
}

WeighedPair::~WeighedPair() {
  for (AdaptableLayer* target : attached_) target->set_residual({});
}

LoraMatrices WeighedPair::Layer::weighed_subject() const {
  LoraMatrices weighed = *subject;
  if (coefficients.defined()) weighed.down = weighed.down * coefficients[0];
  if (share.defined()) weighed.down = projected_off(weighed.down, style_rows, share);
  return weighed;
}

LoraMatrices WeighedPair::Layer::weighed_style() const {
  LoraMatrices weighed = *style;
  if (coefficients.defined()) weighed.down = weighed.down * coefficients[1];
  return weighed;
}

Tensor WeighedPair::residual(const AdaptableLayer& target, const Layer& layer,
                             const Tensor& x) const {
  const Tensor input = x.to(at::kFloat);
  const bool merged = acting_ == Acting::kMerged;
  const auto path = [&](const LoraMatrices& matrices) {
    return low_rank_path(target, matrices, layer.weight_shape, input);
  };
  Tensor sum;
  if (layer.subject && acting_ != Acting::kStyle)
    sum = path(merged ? layer.weighed_subject() : *layer.subject);
  if (layer.style && acting_ != Acting::kSubject) {
    const Tensor style = path(merged ? layer.weighed_style() : *layer.style);
    sum = sum.defined() ? sum + style : style;
  }
  if (!sum.defined()) sum = at::zeros_like(path(layer.subject ? *layer.subject : *layer.style));
  return sum.to(x.scalar_type());
}

std::vector<LayerName> WeighedPair::weighable() const {
  std::vector<LayerName> names;
  for (const auto& [name, layer] : layers_)
    if (layer.subject && layer.style) names.push_back(name);
  return names;
}

const WeighedPair::Layer& WeighedPair::weighable_layer(const LayerName& name) const {
  const Layer& layer = layers_.at(name);
  TORCH_CHECK(layer.subject && layer.style, "internal: the columns of '", name.module,
              "' cannot be weighed");
  return layer;
}

const LoraMatrices& WeighedPair::subject(const LayerName& name) const {
  return *weighable_layer(name).subject;
}
const LoraMatrices& WeighedPair::style(const LayerName& name) const {
  return *weighable_layer(name).style;
}
const std::vector<int64_t>& WeighedPair::weight_shape(const LayerName& name) const {
  return weighable_layer(name).weight_shape;
}
void WeighedPair::weigh(const LayerName& name, const Tensor& coefficients, const Tensor& share) {
  weighable_layer(name);
  Layer& layer = layers_.at(name);
  layer.coefficients = coefficients;
  layer.share = share;
  if (share.defined() && !layer.style_rows.defined())
    layer.style_rows = row_space(layer.style->down);
}

}  // namespace molar
