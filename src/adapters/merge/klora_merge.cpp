#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "layer_merge.h"
#include "merge_methods.h"

namespace molar {
namespace {

constexpr double kAlpha = 1.5, kBeta = 0.5;

bool is_attention(const LayerName& name) {
  return name.component == "unet" && name.module.find(".attn") != std::string::npos;
}

/// Sums of absolute values of one layer's two changes: all, and the largest.
struct Sizes {
  double all_subject, all_style, top_subject, top_style;
};

Sizes measure(const LoraLayer& subject, const LoraLayer& style) {
  const int64_t top = subject.rank() * style.rank();
  const auto sums = [&](const LoraLayer& layer) {
    const Tensor values = layer.delta().abs().flatten();
    const int64_t count = std::min(top, values.size(0));
    return std::pair(values.sum().item<double>(),
                     std::get<0>(values.topk(count)).sum().item<double>());
  };
  const auto [all_subject, top_subject] = sums(subject);
  const auto [all_style, top_style] = sums(style);
  return {all_subject, all_style, top_subject, top_style};
}

/// The share of the steps from which on the style acts; 0 or less: always, 1 or more: never.
double switch_share(const Sizes& sizes, double gamma) {
  if (!(gamma * sizes.top_style > 0)) return 1;  // a style that changes nothing never acts
  return (sizes.top_subject / (gamma * sizes.top_style) - kBeta) / kAlpha;
}

}  // namespace

MergedLora merge_klora(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  std::map<LayerName, Sizes> sizes;
  std::mutex mutex;
  MergedLora merged = merge_layers(inputs, options, [&](const SharedLayer& shared) {
    if (!is_attention(shared.name)) return MergedLayer{strong_parts(shared.terms), {.rule = "sum"}};
    const LayerTerm& subject = term_of(shared.terms, LoraRole::kSubject);
    const Sizes found = measure(*subject.layer, *term_of(shared.terms, LoraRole::kStyle).layer);
    const std::lock_guard lock(mutex);
    sizes.emplace(shared.name, found);
    return MergedLayer{{strong_matrices(subject)}, {.rule = "subject throughout"}};
  });
  double all_subject = 0, all_style = 0;
  for (const auto& [name, of_layer] : sizes) {
    all_subject += of_layer.all_subject;
    all_style += of_layer.all_style;
  }
  const double gamma = all_style > 0 ? all_subject / all_style : 0;
  const MergeInput& style = inputs[inputs[0].role == LoraRole::kStyle ? 0 : 1];
  for (const auto& [name, of_layer] : sizes) {
    const double at = switch_share(of_layer, gamma);
    if (at >= 1) continue;
    LoraLayer later = style.weights.layers.at(name);
    later.scale *= style.strength_of(name);
    merged.layers.at(name).rule = at <= 0 ? "style throughout" : "subject, then style";
    if (at <= 0)
      merged.weights.layers.at(name) = std::move(later);
    else
      merged.switches.emplace(name, LayerSwitch{at, std::move(later)});
  }
  return merged;
}

}  // namespace molar
