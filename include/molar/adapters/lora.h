/// LoRA in memory: one small change of weight per layer, in the factors that the file holds.
///   delta W = scale * up @ down                                  Hu et al. 2021, arXiv:2106.09685
/// and its relatives LoHa and LoKr (Yeh et al. 2023, arXiv:2309.14859). Factors stay views of the
/// mapped file until a layer's change is computed, one layer at a time, in float32.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "molar/adapters/model_layers.h"
#include "molar/core/tensor.h"

namespace molar {

/// up @ down. down: [r, in] or [r, in, kh, kw]; up: [out, r] or [out, r, 1, 1];
/// mid: undefined, or [r, r, kh, kw] (CP decomposition of a convolution; down is then [r, in, 1,
/// 1]).
struct LowRankFactors {
  Tensor down, up, mid;
};

/// LoHa: (w1_a @ w1_b) * (w2_a @ w2_b), element by element. w?_a: [out, r], w?_b: [r, in*kh*kw].
/// With t1 and t2 [r, r, kh, kw] (both or none) each product is the CP form, and w?_a: [r, out],
/// w?_b: [r, in].
struct HadamardFactors {
  Tensor w1_a, w1_b, w2_a, w2_b, t1, t2;
};

/// LoKr: kron(w1, w2). Each is whole, or a product w?_a @ w?_b; the second may be the CP form with
/// t2.
struct KroneckerFactors {
  Tensor w1, w1_a, w1_b, w2, w2_a, w2_b, t2;
  /// Neither is a product: the factors show no rank.
  bool whole() const { return w1.defined() && w2.defined(); }
};

struct LoraLayer;

/// The sum of several layers' changes, kept as its terms.
struct LoraSum {
  std::vector<LoraLayer> terms;
};

/// Two matrices whose product up @ down is a layer's whole change, float32.
struct LoraMatrices {
  Tensor down;  ///< [r, in*kh*kw], columns ordered in, kh, kw; holds the scale
  Tensor up;    ///< [out, r]
};

/// The change of one layer.
struct LoraLayer {
  std::variant<LowRankFactors, HadamardFactors, KroneckerFactors, LoraSum> factors;
  double scale = 1.0;  ///< alpha / rank (rsLoRA: alpha / sqrt(rank)), times any strength
  std::vector<int64_t> weight_shape = {};  ///< of the layer: [out, in] or [out, in, kh, kw]

  /// The inner dimension that alpha is divided by (LoKr with two whole factors: the change's own);
  /// of a sum, its terms' ranks together.
  int64_t rank() const;
  /// scale * change, float32, [weight_shape].
  Tensor delta() const;
  /// Adds strength * delta() to `weight`: float32, [weight_shape], contiguous or channels-last. Low
  /// rank needs no memory of the weight's size for it.
  void add_delta_to_(const Tensor& weight, double strength) const;
  /// Exact factors of delta(). A sum has the ranks of its terms together; LoHa has rank r^2; where
  /// LoHa's or LoKr's would reach min(out, in*kh*kw), one factor is the change itself and the other
  /// the identity.
  LoraMatrices matrices() const;
  /// All defined tensors, for checks and counts.
  std::vector<Tensor> tensors() const;
};

/// A LoRA file that was matched to a model, or the result of a merge.
struct LoraWeights {
  std::filesystem::path path;  ///< the safetensors file; empty for a merge
  std::string key_family;      ///< "kohya", "diffusers", "PEFT", ... as read
  std::map<LayerName, LoraLayer> layers;
  std::map<std::string, std::string> metadata;  ///< the file's own, untouched
  int64_t num_keys = 0;                         ///< tensors in the file
  std::vector<std::string> skipped_keys;        ///< fit nothing and were allowed to (allow_partial)

  /// Layers of one component.
  int64_t num_layers(const std::string& component) const;
};

}  // namespace molar
