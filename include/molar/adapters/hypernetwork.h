/// Networks that predict how two LoRAs are to be merged, layer by layer, in one forward pass: the
/// hypernetwork of LoRA.rar (Shenaj et al. 2024, arXiv:2412.05148), and one that reads features of
/// the changes instead of the changes themselves.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/io/safetensors.h"
#include "molar/io/state_dict.h"

namespace molar {

/// What becomes of layers that the network does not cover: to_k and to_v of attention.
enum class KeyValueMode {
  kSum,   ///< coefficients (1, 1), as the published code
  kMean,  ///< (1/2, 1/2), as the paper words it
};
/// Throws ConfigError for anything but "sum" and "mean".
KeyValueMode parse_key_value_mode(const std::string& name);

/// What a network reads, and the names and shapes of its tensors. H hidden values, F features.
enum class HypernetLayout {
  /// LoRA.rar's: rows j of (delta W_subject^T | delta W_style^T) [in, 2*out] go in, (m_subject,
  /// m_style)_j come out; one head per width `out` of to_q and to_out.0.
  ///   input_k.weight [H, 2*out], input_k.bias [H]; output.1.weight [2, H], output.1.bias [2]
  kColumns,
  /// column_features.h of every column of the UNet's layers: no tensor depends on a width.
  ///   features.0.weight [H, F], .bias [H]; features.2.weight [H, H], .bias [H]; features.4.weight
  ///   [3, H], .bias [3], with ReLU between; the mean of the third output over the columns is the
  ///   logit of the projection.
  kFeatures,
};
/// "columns", "features". Throws ConfigError for anything else.
HypernetLayout parse_hypernet_layout(const std::string& name);
std::string_view hypernet_layout_name(HypernetLayout layout);

/// How a layer's two changes are to be merged.
struct PredictedMerge {
  Tensor coefficients;  ///< [2, in], float32: of the subject's columns and of the style's
  /// How far the weighed subject leaves the style's rows: mu / (1 + mu) of NP-LoRA, in (0, 1), a
  /// scalar. Undefined: not at all.
  Tensor projection;
};

/// Either layout, read from a file.
class Hypernetwork {
 public:
  /// Reads a .safetensors file of either layout. Throws FileError: missing, not a hypernetwork,
  /// tensors missing, unknown, of shapes that do not fit each other or not finite. The metadata
  /// entry `molar.key_value` ("sum", "mean") overrides kSum.
  static Hypernetwork load(const std::filesystem::path& path);
  /// The same from tensors in memory, float32 ones without a copy: gradients of predictions flow to
  /// them. `path` names them in messages.
  static Hypernetwork from_tensors(const StateDict& tensors, const std::filesystem::path& path);

  /// is_predictable_layer, and with kColumns a head has its width.
  bool covers(const LayerName& name, const std::vector<int64_t>& weight_shape) const;

  /// Both changes are of the covered layer `name`; `scale` is part of `down`. They stay in factors.
  PredictedMerge predict(const LayerName& name, const LoraMatrices& subject,
                         const LoraMatrices& style) const;

  HypernetLayout layout() const;
  KeyValueMode key_value() const { return key_value_; }
  const std::filesystem::path& path() const { return path_; }
  /// Rows of the layers that have a head; empty for a network that needs none.
  std::vector<int64_t> widths() const;
  int64_t num_hidden() const;

  class Network;

 private:
  std::filesystem::path path_;
  std::shared_ptr<const Network> network_;
  KeyValueMode key_value_ = KeyValueMode::kSum;
};

/// Whether a network of `layout` can be for the layer. kColumns: a UNet attention's to_q or
/// to_out.0, of two dimensions; kFeatures: every layer of the UNet.
bool is_predictable_layer(HypernetLayout layout, const LayerName& name,
                          const std::vector<int64_t>& weight_shape);

/// Whether the file has the tensors that every hypernetwork of some layout has.
bool is_hypernetwork(const SafetensorsFile& file);

/// A tensor of a network that is yet to learn.
struct HypernetTensor {
  std::vector<int64_t> shape;
  int64_t fan_in;     ///< torch.nn.Linear's bound is 1 / sqrt(fan_in)
  bool reads_inputs;  ///< without it the network predicts the same whatever it is given
  std::vector<double>
      start;  ///< the first values, row by row; empty: as torch.nn.Linear draws them
};
/// By name. kColumns starts with a bias of 1: near the sum. kFeatures starts at NP-LoRA with its
/// default mu, exactly. `widths`: the heads of kColumns.
std::map<std::string, HypernetTensor> hypernet_tensors(HypernetLayout layout,
                                                       const std::vector<int64_t>& widths,
                                                       int64_t num_hidden);

}  // namespace molar
