/// The hypernetwork of LoRA.rar: predicts how two LoRAs are to be weighed, column by column of each
/// layer's change, in one forward pass. Shenaj et al. 2024, arXiv:2412.05148.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/io/safetensors.h"
#include "molar/io/state_dict.h"

namespace molar {

/// What becomes of layers that no head of the network is for: to_k and to_v of attention.
enum class KeyValueMode {
  kSum,   ///< coefficients (1, 1), as the published code
  kMean,  ///< (1/2, 1/2), as the paper words it
};
/// Throws ConfigError for anything but "sum" and "mean".
KeyValueMode parse_key_value_mode(const std::string& name);

/// A network in the published layout: one head per width of layer, then what all share.
///   input_k.weight [H, 2*out], input_k.bias [H]; output.1.weight [2, H], output.1.bias [2]
/// Rows j of (delta W_subject^T | delta W_style^T) [in, 2*out] go in, (m_subject, m_style)_j come
/// out. The metadata entry `molar.key_value` ("sum", "mean") overrides kSum for to_k and to_v.
class Hypernetwork {
 public:
  /// Reads a .safetensors file. Throws FileError: missing, not a hypernetwork, tensors missing,
  /// unknown, of shapes that do not fit each other or not finite.
  static Hypernetwork load(const std::filesystem::path& path);
  /// The same from tensors in memory, float32 ones without a copy: gradients of `coefficients` flow
  /// to them. `path` names them in messages.
  static Hypernetwork from_tensors(const StateDict& tensors, const std::filesystem::path& path);

  /// The layer is a UNet attention's to_q or to_out.0 and a head has its width.
  bool covers(const LayerName& name, const std::vector<int64_t>& weight_shape) const;

  /// Coefficients [2, in], float32: of the subject's columns and of the style's. The changes stay
  /// in factors, as the first layer is linear:
  ///   W (delta W)^T = (W_subject up_s) down_s + (W_style up_t) down_t
  /// Both changes have a covered layer's shape; `scale` is part of `down`.
  Tensor coefficients(const LoraMatrices& subject, const LoraMatrices& style) const;

  KeyValueMode key_value() const { return key_value_; }
  const std::filesystem::path& path() const { return path_; }
  /// Rows of the layers that have a head.
  std::vector<int64_t> widths() const;
  int64_t num_hidden() const { return weight_.size(1); }

 private:
  struct Head {
    Tensor subject, style, bias;  // [H, out], [H, out], [H, 1]
  };
  std::filesystem::path path_;
  std::map<int64_t, Head> heads_;  // by width
  Tensor weight_, bias_;           // [2, H], [2, 1]
  KeyValueMode key_value_ = KeyValueMode::kSum;
};

/// A layer that a head may be for: a UNet attention's to_q or to_out.0.
bool is_predictable_layer(const LayerName& name);

/// Whether the file has the tensors that every hypernetwork has.
bool is_hypernetwork(const SafetensorsFile& file);

}  // namespace molar
