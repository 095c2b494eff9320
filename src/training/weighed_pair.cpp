#include "weighed_pair.h"

#include <ATen/ATen.h>

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
    Layer layer{factors(subject), factors(style), target->weight().sizes().vec(), {}};
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

Tensor WeighedPair::residual(const AdaptableLayer& target, const Layer& layer,
                             const Tensor& x) const {
  const Tensor input = x.to(at::kFloat);
  const bool merged = acting_ == Acting::kMerged;
  const auto path = [&](const LoraMatrices& matrices, int64_t row) {
    const bool is_weighed = merged && layer.coefficients.defined();
    return low_rank_path(target, matrices, layer.weight_shape,
                         is_weighed ? input * layer.coefficients[row] : input);
  };
  Tensor sum;
  if (layer.subject && acting_ != Acting::kStyle) sum = path(*layer.subject, 0);
  if (layer.style && acting_ != Acting::kSubject) {
    const Tensor style = path(*layer.style, 1);
    sum = sum.defined() ? sum + style : style;
  }
  if (!sum.defined()) sum = at::zeros_like(path(layer.subject ? *layer.subject : *layer.style, 0));
  return sum.to(x.scalar_type());
}

std::vector<LayerName> WeighedPair::weighable() const {
  std::vector<LayerName> names;
  for (const auto& [name, layer] : layers_)
    if (layer.subject && layer.style && layer.weight_shape.size() == 2) names.push_back(name);
  return names;
}

const WeighedPair::Layer& WeighedPair::weighable_layer(const LayerName& name) const {
  const Layer& layer = layers_.at(name);
  TORCH_CHECK(layer.subject && layer.style && layer.weight_shape.size() == 2,
              "internal: the columns of '", name.module, "' cannot be weighed");
  return layer;
}

const LoraMatrices& WeighedPair::subject(const LayerName& name) const {
  return *weighable_layer(name).subject;
}
const LoraMatrices& WeighedPair::style(const LayerName& name) const {
  return *weighable_layer(name).style;
}
void WeighedPair::weigh(const LayerName& name, const Tensor& coefficients) {
  weighable_layer(name);
  layers_.at(name).coefficients = coefficients;
}

}  // namespace molar
