#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "hypernetwork_layouts.h"
#include "molar/adapters/column_features.h"
#include "molar/core/error.h"

namespace molar {
namespace {

constexpr int64_t kNumOutputs = 3;  // m_subject, m_style, the projection's logit
constexpr double kStartMu = 0.5;    // NP-LoRA's default
constexpr const char* kLayers[] = {"features.0", "features.2", "features.4"};

int64_t num_features() { return static_cast<int64_t>(column_feature_names().size()); }

class FeatureNetwork final : public Hypernetwork::Network {
 public:
  explicit FeatureNetwork(const HypernetReader& reader) {
    const int64_t hidden = reader.take(kFeaturesMark, {-1, num_features()}).size(0);
    const std::map<std::string, HypernetTensor> wanted = feature_network_tensors(hidden);
    for (const auto& [name, tensor] : reader.tensors())
      if (!wanted.contains(name))
        throw FileError(
            fmt::format("{}: tensor '{}' is unknown, wanted features.0, .2 and .4 with "
                        ".weight and .bias",
                        reader.source(), name));
    const auto take = [&](const std::string& name) {
      return reader.take(name, wanted.at(name).shape);
    };
    for (const char* layer : kLayers)
      layers_.push_back({take(fmt::format("{}.weight", layer)),
                         take(fmt::format("{}.bias", layer)).unsqueeze(1)});
  }

  HypernetLayout layout() const override { return HypernetLayout::kFeatures; }
  bool covers(const LayerName& name, const std::vector<int64_t>& weight_shape) const override {
    return is_predictable_layer(layout(), name, weight_shape);
  }

  PredictedMerge predict(const LayerName& name, const LoraMatrices& subject,
                         const LoraMatrices& style) const override {
    Tensor x = column_features(name.module, subject, style);
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (i > 0) x = x.relu();
      x = at::addmm(layers_[i].bias, layers_[i].weight, x);
    }
    return {x.narrow(0, 0, kNumOutputs - 1), x[kNumOutputs - 1].mean().sigmoid()};
  }

  std::vector<int64_t> widths() const override { return {}; }
  int64_t num_hidden() const override { return layers_[0].weight.size(0); }

 private:
  struct Layer {
    Tensor weight, bias;  // [out, in], [out, 1]
  };
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<Hypernetwork::Network> read_feature_network(const HypernetReader& reader) {
  return std::make_unique<FeatureNetwork>(reader);
}

std::map<std::string, HypernetTensor> feature_network_tensors(int64_t num_hidden) {
  const int64_t sizes[] = {num_features(), num_hidden, num_hidden, kNumOutputs};
  std::map<std::string, HypernetTensor> tensors;
  for (size_t i = 0; i < std::size(kLayers); ++i) {
    const int64_t in = sizes[i], out = sizes[i + 1];
    tensors[fmt::format("{}.weight", kLayers[i])] = {{out, in}, in, i == 0, {}};
    tensors[fmt::format("{}.bias", kLayers[i])] = {{out}, in, false, {}};
  }
  const std::string last = kLayers[std::size(kLayers) - 1];
  tensors[last + ".weight"].start.assign(static_cast<size_t>(kNumOutputs * num_hidden), 0.0);
  // sigmoid(x) = mu / (1 + mu) for x = log mu
  tensors[last + ".bias"].start = {1, 1, std::log(kStartMu)};
  return tensors;
}

}  // namespace molar
