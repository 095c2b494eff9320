#include <ATen/ATen.h>

#include <functional>

#include "layer_merge.h"
#include "merge_methods.h"
#include "molar/core/random.h"

namespace molar {
namespace {

/// Terms' changes [N, out, in*kh*kw] and their strengths [N, 1, 1] to one change [out, in*kh*kw].
/// `number`: as SharedLayer has it.
using ChangeRule =
    std::function<Tensor(const Tensor& changes, const Tensor& strengths, int64_t number)>;

/// Whole changes, as the methods work on single values; the result in factors again.
MergedLora merge_changes(const std::vector<MergeInput>& inputs, const MergeOptions& options,
                         const std::string& name_of_rule, const ChangeRule& rule) {
  return merge_layers(inputs, options, [&](const SharedLayer& shared) {
    std::vector<Tensor> changes;
    std::vector<double> strengths;
    int64_t rank = 0;
    for (const LayerTerm& term : shared.terms) {
      const LoraMatrices matrices = term.layer->matrices();
      changes.push_back(at::matmul(matrices.up, matrices.down));
      strengths.push_back(term.strength);
      rank += matrices.down.size(0);
    }
    const Tensor merged =
        rule(at::stack(changes), at::tensor(strengths, at::kFloat).unsqueeze(-1).unsqueeze(-1),
             shared.number);
    const int64_t rows = merged.size(0), columns = merged.size(1);
    const LoraMatrices whole =
        rows <= columns ? LoraMatrices{.down = merged, .up = at::eye(rows, at::kFloat)}
                        : LoraMatrices{.down = at::eye(columns, at::kFloat), .up = merged};
    return MergedLayer{{truncated(whole, options.rank.value_or(rank))}, {.rule = name_of_rule}};
  });
}

/// The `density` of each change's values that are largest by size; 0 for the others.
Tensor trimmed(const Tensor& changes, double density) {
  const Tensor flat = changes.flatten(1);
  const auto kept = static_cast<int64_t>(density * static_cast<double>(flat.size(1)));
  const Tensor places = std::get<1>(flat.abs().topk(kept, /*dim=*/1));
  return at::zeros_like(flat).scatter_(1, places, flat.gather(1, places)).view_as(changes);
}

}  // namespace

MergedLora merge_ties(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  return merge_changes(inputs, options, "elected",
                       [&](const Tensor& changes, const Tensor& strengths, int64_t /*number*/) {
                         const Tensor kept = trimmed(changes, options.density);
                         const Tensor sign = at::where(kept.sum(0).ge(0), 1.0, -1.0).to(at::kFloat);
                         const Tensor agrees = kept.sign().eq(sign);
                         return (kept * strengths * agrees).sum(0) / agrees.sum(0).clamp_min(1);
                       });
}

MergedLora merge_dare(const std::vector<MergeInput>& inputs, const MergeOptions& options) {
  constexpr uint64_t kStream = 0;  // each layer draws from a source of its own
  return merge_changes(
      inputs, options, "thinned sum",
      [&](const Tensor& changes, const Tensor& strengths, int64_t number) {
        RandomSource random(derived_seed(options.seed, kStream, static_cast<uint64_t>(number)));
        const Tensor kept = random.uniform(changes.sizes(), 0, 1) < options.density;
        return (changes * kept / options.density * strengths).sum(0);
      });
}

}  // namespace molar
