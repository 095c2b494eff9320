#include "molar/adapters/hypernetwork.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <string_view>

#include "molar/core/error.h"
#include "molar/core/finite.h"
#include "molar/io/safetensors.h"

namespace molar {
namespace {

constexpr std::string_view kHead = "input_", kWeight = ".weight", kBias = ".bias";
constexpr const char *kOutputWeight = "output.1.weight", *kOutputBias = "output.1.bias";
constexpr const char* kKeyValueEntry = "molar.key_value";
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

/// A tensor of the network in float32. A size of -1 may be anything above 0.
Tensor take_tensor(const StateDict& tensors, const std::filesystem::path& path,
                   const std::string& name, const std::vector<int64_t>& wanted) {
  const auto found = tensors.find(name);
  if (found == tensors.end())
    throw FileError(
        fmt::format("'{}' is no whole hypernetwork: tensor '{}' is missing", path.string(), name));
  const Tensor& stored = found->second;
  bool fits = at::isFloatingType(stored.scalar_type()) &&
              stored.dim() == static_cast<int64_t>(wanted.size());
  for (size_t i = 0; fits && i < wanted.size(); ++i)
    fits = stored.size(static_cast<int64_t>(i)) > 0 &&
           (wanted[i] < 0 || stored.size(static_cast<int64_t>(i)) == wanted[i]);
  if (!fits)
    throw FileError(
        fmt::format("hypernetwork '{}': tensor '{}' is {} {}, wanted {} (-1: any) of a "
                    "floating-point type",
                    path.string(), name, dtype_name(stored.scalar_type()),
                    shape_string(stored.sizes()), shape_string(wanted)));
  const Tensor values = stored.to(at::kFloat);
  if (!is_finite(values))
    throw FileError(
        fmt::format("hypernetwork '{}': tensor '{}' holds NaN or infinity", path.string(), name));
  return values;
}

}  // namespace

KeyValueMode parse_key_value_mode(const std::string& name) {
  if (name == "sum") return KeyValueMode::kSum;
  if (name == "mean") return KeyValueMode::kMean;
  throw ConfigError(fmt::format("--key-value '{}': wanted sum or mean", name));
}

bool is_hypernetwork(const SafetensorsFile& file) {
  return file.entries().contains(kOutputWeight) && file.entries().contains("input_1.weight");
}

Hypernetwork Hypernetwork::load(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  if (!is_hypernetwork(file))
    throw FileError(
        fmt::format("'{}' is no hypernetwork: wanted tensors 'input_1.weight' and '{}' "
                    "(a published .pth becomes one by scripts/convert_hypernet)",
                    path.string(), kOutputWeight));
  Hypernetwork network = from_tensors(file.state_dict(), path);
  if (const auto found = file.metadata().find(kKeyValueEntry); found != file.metadata().end()) {
    if (found->second != "sum" && found->second != "mean")
      throw FileError(fmt::format("hypernetwork '{}': metadata '{}' is '{}', wanted sum or mean",
                                  path.string(), kKeyValueEntry, found->second));
    network.key_value_ = parse_key_value_mode(found->second);
  }
  return network;
}

Hypernetwork Hypernetwork::from_tensors(const StateDict& tensors,
                                        const std::filesystem::path& path) {
  Hypernetwork network;
  network.path_ = path;
  network.weight_ = take_tensor(tensors, path, kOutputWeight, {kNumRoles, -1});
  network.bias_ = take_tensor(tensors, path, kOutputBias, {kNumRoles}).unsqueeze(1);
  const int64_t hidden = network.weight_.size(1);
  for (const auto& [name, tensor] : tensors) {
    if (name == kOutputWeight || name == kOutputBias) continue;
    if (!head_number(name, kBias).empty()) {
      take_tensor(tensors, path, name, {hidden});
      continue;
    }
    const std::string_view number = head_number(name, kWeight);
    if (number.empty())
      throw FileError(
          fmt::format("hypernetwork '{}': tensor '{}' is unknown, wanted input_k and "
                      "output.1 with .weight and .bias",
                      path.string(), name));
    const Tensor weight = take_tensor(tensors, path, name, {hidden, -1});
    if (weight.size(1) % kNumRoles != 0)
      throw FileError(
          fmt::format("hypernetwork '{}': '{}' reads {} values; wanted an even number, "
                      "a column of the subject's change and one of the style's",
                      path.string(), name, weight.size(1)));
    const auto halves = weight.chunk(kNumRoles, 1);
    const Tensor bias =
        take_tensor(tensors, path, fmt::format("{}{}{}", kHead, number, kBias), {hidden});
    const Head head{halves[0], halves[1], bias.unsqueeze(1)};
    if (!network.heads_.emplace(halves[0].size(1), head).second)
      throw FileError(fmt::format("hypernetwork '{}': two heads for layers of width {}",
                                  path.string(), halves[0].size(1)));
  }
  for (const auto& [name, tensor] : tensors)
    if (const auto number = head_number(name, kBias);
        !number.empty() && !tensors.contains(fmt::format("{}{}{}", kHead, number, kWeight)))
      throw FileError(
          fmt::format("hypernetwork '{}': '{}' has no weight beside it", path.string(), name));
  return network;
}

bool is_predictable_layer(const LayerName& name) {
  return name.component == "unet" &&
         (name.module.ends_with(".to_q") || name.module.ends_with(".to_out.0"));
}

bool Hypernetwork::covers(const LayerName& name, const std::vector<int64_t>& weight_shape) const {
  return is_predictable_layer(name) && weight_shape.size() == 2 &&
         heads_.contains(weight_shape.front());
}

Tensor Hypernetwork::coefficients(const LoraMatrices& subject, const LoraMatrices& style) const {
  const Head& head = heads_.at(subject.up.size(0));
  Tensor hidden = at::addmm(head.bias, at::matmul(head.subject, subject.up), subject.down);
  hidden.addmm_(at::matmul(head.style, style.up), style.down);
  return at::addmm(bias_, weight_, hidden.relu_());
}

std::vector<int64_t> Hypernetwork::widths() const {
  std::vector<int64_t> widths;
  for (const auto& [width, head] : heads_) widths.push_back(width);
  return widths;
}

}  // namespace molar
