/// The two layouts of hypernetworks: see HypernetLayout.
#pragma once

#include <map>
#include <memory>

#include "molar/adapters/hypernetwork.h"

namespace molar {

class Hypernetwork::Network {
 public:
  virtual ~Network() = default;
  virtual HypernetLayout layout() const = 0;
  virtual bool covers(const LayerName& name, const std::vector<int64_t>& weight_shape) const = 0;
  virtual PredictedMerge predict(const LayerName& name, const LoraMatrices& subject,
                                 const LoraMatrices& style) const = 0;
  virtual std::vector<int64_t> widths() const = 0;
  virtual int64_t num_hidden() const = 0;
};

/// Tensors by name, in float32, each asked for once and with a shape; what was not asked for is
/// refused at the end.
class HypernetReader {
 public:
  HypernetReader(const StateDict& tensors, const std::filesystem::path& path)
      : tensors_(tensors), path_(path) {}

  /// A size of -1 may be anything above 0. Throws FileError.
  Tensor take(const std::string& name, const std::vector<int64_t>& wanted) const;
  const StateDict& tensors() const { return tensors_; }
  std::string source() const;

 private:
  const StateDict& tensors_;
  const std::filesystem::path& path_;
};

std::unique_ptr<Hypernetwork::Network> read_column_network(const HypernetReader& reader);
std::unique_ptr<Hypernetwork::Network> read_feature_network(const HypernetReader& reader);

std::map<std::string, HypernetTensor> column_network_tensors(const std::vector<int64_t>& widths,
                                                             int64_t num_hidden);
std::map<std::string, HypernetTensor> feature_network_tensors(int64_t num_hidden);

/// What a file of each layout has for sure.
inline constexpr const char *kColumnsMark = "input_1.weight", *kFeaturesMark = "features.0.weight";

}  // namespace molar
