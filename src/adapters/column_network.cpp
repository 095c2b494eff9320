#include <ATen/ATen.h>
#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "hypernetwork_layouts.h"
#include "molar/core/error.h"

namespace molar {
namespace {

constexpr std::string_view kHead = "input_", kWeight = ".weight", kBias = ".bias";
constexpr const char *kOutputWeight = "output.1.weight", *kOutputBias = "output.1.bias";
constexpr int64_t kNumRoles = 2;

/// "input_2.weight" -> "2"; empty for what is no head's.
std::string_view head_number(std::string_view key, std::string_view suffix) {
  if (!key.starts_with(kHead) || !key.ends_with(suffix)) return {};
  key.remove_prefix(kHead.size());
  key.remove_suffix(suffix.size());
  int number = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), number);
  return error == std::errc() && end == key.data() + key.size() ? key : std::string_view();
}

class ColumnNetwork final : public Hypernetwork::Network {
 public:
  explicit ColumnNetwork(const HypernetReader& reader)
      : weight_(reader.take(kOutputWeight, {kNumRoles, -1})),
        bias_(reader.take(kOutputBias, {kNumRoles}).unsqueeze(1)) {
    for (const auto& [name, tensor] : reader.tensors())
      if (name != kOutputWeight && name != kOutputBias) read_head(name, reader);
    for (const auto& [name, tensor] : reader.tensors())
      if (const auto number = head_number(name, kBias);
          !number.empty() &&
          !reader.tensors().contains(fmt::format("{}{}{}", kHead, number, kWeight)))
        throw FileError(fmt::format("{}: '{}' has no weight beside it", reader.source(), name));
  }

  HypernetLayout layout() const override { return HypernetLayout::kColumns; }

  bool covers(const LayerName& name, const std::vector<int64_t>& weight_shape) const override {
    return is_predictable_layer(layout(), name, weight_shape) &&
           heads_.contains(weight_shape.front());
  }

  /// The first layer is linear, so the changes stay in factors:
  ///   W (delta W)^T = (W_subject up_s) down_s + (W_style up_t) down_t
  PredictedMerge predict(const LayerName&, const LoraMatrices& subject,
                         const LoraMatrices& style) const override {
    const Head& head = heads_.at(subject.up.size(0));
    Tensor hidden = at::addmm(head.bias, at::matmul(head.subject, subject.up), subject.down);
    hidden.addmm_(at::matmul(head.style, style.up), style.down);
    return {at::addmm(bias_, weight_, hidden.relu_()), {}};
  }

  std::vector<int64_t> widths() const override {
    std::vector<int64_t> widths;
    for (const auto& [width, head] : heads_) widths.push_back(width);
    return widths;
  }
  int64_t num_hidden() const override { return weight_.size(1); }

 private:
  struct Head {
    Tensor subject, style, bias;  // [H, out], [H, out], [H, 1]
  };

  void read_head(const std::string& name, const HypernetReader& reader) {
    if (!head_number(name, kBias).empty()) {
      reader.take(name, {num_hidden()});
      return;
    }
    const std::string_view number = head_number(name, kWeight);
    if (number.empty())
      throw FileError(
          fmt::format("{}: tensor '{}' is unknown, wanted input_k and output.1 with "
                      ".weight and .bias",
                      reader.source(), name));
    const Tensor weight = reader.take(name, {num_hidden(), -1});
    if (weight.size(1) % kNumRoles != 0)
      throw FileError(
          fmt::format("{}: '{}' reads {} values; wanted an even number, a column of the "
                      "subject's change and one of the style's",
                      reader.source(), name, weight.size(1)));
    const auto halves = weight.chunk(kNumRoles, 1);
    const Tensor bias = reader.take(fmt::format("{}{}{}", kHead, number, kBias), {num_hidden()});
    const Head head{halves[0], halves[1], bias.unsqueeze(1)};
    if (!heads_.emplace(halves[0].size(1), head).second)
      throw FileError(
          fmt::format("{}: two heads for layers of width {}", reader.source(), halves[0].size(1)));
  }

  Tensor weight_, bias_;           // [2, H], [2, 1]
  std::map<int64_t, Head> heads_;  // by width
};

}  // namespace

std::unique_ptr<Hypernetwork::Network> read_column_network(const HypernetReader& reader) {
  return std::make_unique<ColumnNetwork>(reader);
}

std::map<std::string, HypernetTensor> column_network_tensors(const std::vector<int64_t>& widths,
                                                             int64_t num_hidden) {
  std::map<std::string, HypernetTensor> tensors;
  int64_t number = 1;
  for (const int64_t width : widths) {
    const std::string head = fmt::format("{}{}", kHead, number++);
    const int64_t fan_in = kNumRoles * width;
    tensors[fmt::format("{}{}", head, kWeight)] = {{num_hidden, fan_in}, fan_in, true, {}};
    tensors[fmt::format("{}{}", head, kBias)] = {{num_hidden}, fan_in, false, {}};
  }
  tensors[kOutputWeight] = {{kNumRoles, num_hidden}, num_hidden, false, {}};
  tensors[kOutputBias] = {{kNumRoles}, num_hidden, false, {1, 1}};
  return tensors;
}

}  // namespace molar
