/// Two frozen LoRAs beside a frozen UNet, each column of their changes weighed: what ZipLoRA's
/// coefficients and the hypernetwork learn through.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/adapters/model_layers.h"

namespace molar {

/// Attaches to the UNet's layers until destruction:
///   y = W x + b + up_s down_s diag(m_s) (I - share Q Q^T) x + up_t down_t diag(m_t) x
/// with x as im2col has it for convolutions and Q an orthonormal basis of down_t's rows. Layers
/// that one LoRA alone changes keep coefficients of 1.
class WeighedPair {
 public:
  /// What acts: one LoRA as it is, or both with their coefficients.
  enum class Acting { kSubject, kStyle, kMerged };

  /// `layers`: of a UNet that must outlive this. Layers of other components in the LoRAs are left
  /// out. Factors move to the layers' device.
  WeighedPair(const LayerIndex& layers, const LoraWeights& subject, const LoraWeights& style);
  ~WeighedPair();
  WeighedPair(const WeighedPair&) = delete;
  WeighedPair& operator=(const WeighedPair&) = delete;

  void act(Acting acting) { acting_ = acting; }

  /// Names of the layers whose columns may be weighed, in order: those that both change.
  std::vector<LayerName> weighable() const;
  /// Of a weighable layer.
  const std::vector<int64_t>& weight_shape(const LayerName& name) const;
  /// Of a weighable layer; `scale` is part of `down`.
  const LoraMatrices& subject(const LayerName& name) const;
  const LoraMatrices& style(const LayerName& name) const;
  /// [2, in], m_s and m_t, act under kMerged from now on; before that they are 1. `share`: a
  /// scalar; undefined: 0.
  void weigh(const LayerName& name, const Tensor& coefficients, const Tensor& share = {});

 private:
  struct Layer {
    std::optional<LoraMatrices> subject, style;
    std::vector<int64_t> weight_shape;
    Tensor coefficients, share;
    Tensor style_rows;  // Q, where there is a share

    /// The factors with their weights.
    LoraMatrices weighed_subject() const, weighed_style() const;
  };
  const Layer& weighable_layer(const LayerName& name) const;
  Tensor residual(const AdaptableLayer& target, const Layer& layer, const Tensor& x) const;

  Acting acting_ = Acting::kMerged;
  std::map<LayerName, Layer> layers_;
  std::vector<AdaptableLayer*> attached_;
};

}  // namespace molar
