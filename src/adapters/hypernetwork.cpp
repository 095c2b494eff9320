#include "molar/adapters/hypernetwork.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "hypernetwork_layouts.h"
#include "molar/core/error.h"
#include "molar/core/finite.h"

namespace molar {
namespace {

constexpr const char* kKeyValueEntry = "molar.key_value";

struct LayoutRow {
  HypernetLayout layout;
  std::string_view name;
  const char* mark;  // a tensor that every network of the layout has
  std::unique_ptr<Hypernetwork::Network> (*read)(const HypernetReader& reader);
};
constexpr LayoutRow kLayouts[] = {
    {HypernetLayout::kColumns, "columns", kColumnsMark, read_column_network},
    {HypernetLayout::kFeatures, "features", kFeaturesMark, read_feature_network}};

}  // namespace

KeyValueMode parse_key_value_mode(const std::string& name) {
  if (name == "sum") return KeyValueMode::kSum;
  if (name == "mean") return KeyValueMode::kMean;
  throw ConfigError(fmt::format("--key-value '{}': wanted sum or mean", name));
}

HypernetLayout parse_hypernet_layout(const std::string& name) {
  for (const LayoutRow& row : kLayouts)
    if (row.name == name) return row.layout;
  throw ConfigError(fmt::format("--layout '{}': wanted columns or features", name));
}

std::string_view hypernet_layout_name(HypernetLayout layout) {
  for (const LayoutRow& row : kLayouts)
    if (row.layout == layout) return row.name;
  throw Error("internal: a layout without a row");
}

Tensor HypernetReader::take(const std::string& name, const std::vector<int64_t>& wanted) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end())
    throw FileError(
        fmt::format("'{}' is no whole hypernetwork: tensor '{}' is missing", path_.string(), name));
  const Tensor& stored = found->second;
  bool fits = at::isFloatingType(stored.scalar_type()) &&
              stored.dim() == static_cast<int64_t>(wanted.size());
  for (size_t i = 0; fits && i < wanted.size(); ++i)
    fits = stored.size(static_cast<int64_t>(i)) > 0 &&
           (wanted[i] < 0 || stored.size(static_cast<int64_t>(i)) == wanted[i]);
  if (!fits)
    throw FileError(fmt::format(
        "{}: tensor '{}' is {} {}, wanted {} (-1: any) of a floating-point type", source(), name,
        dtype_name(stored.scalar_type()), shape_string(stored.sizes()), shape_string(wanted)));
  const Tensor values = stored.to(at::kFloat);
  if (!is_finite(values))
    throw FileError(fmt::format("{}: tensor '{}' holds NaN or infinity", source(), name));
  return values;
}

std::string HypernetReader::source() const {
  return fmt::format("hypernetwork '{}'", path_.string());
}

bool is_hypernetwork(const SafetensorsFile& file) {
  for (const LayoutRow& row : kLayouts)
    if (file.entries().contains(row.mark)) return true;
  return false;
}

Hypernetwork Hypernetwork::load(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
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
  const HypernetReader reader(tensors, network.path_);
  if (tensors.contains(kColumnsMark) && tensors.contains(kFeaturesMark))
    throw FileError(fmt::format("{} has tensors of two layouts, '{}' and '{}'; wanted one",
                                reader.source(), kColumnsMark, kFeaturesMark));
  for (const LayoutRow& row : kLayouts)
    if (tensors.contains(row.mark)) network.network_ = row.read(reader);
  if (network.network_ == nullptr)
    throw FileError(
        fmt::format("'{}' is no hypernetwork: wanted tensors '{}' and more of LoRA.rar's, or '{}' "
                    "(a published .pth becomes one by scripts/convert_hypernet)",
                    path.string(), kColumnsMark, kFeaturesMark));
  return network;
}

bool is_predictable_layer(HypernetLayout layout, const LayerName& name,
                          const std::vector<int64_t>& weight_shape) {
  if (name.component != "unet") return false;
  return layout == HypernetLayout::kFeatures ||
         (weight_shape.size() == 2 &&
          (name.module.ends_with(".to_q") || name.module.ends_with(".to_out.0")));
}

bool Hypernetwork::covers(const LayerName& name, const std::vector<int64_t>& weight_shape) const {
  return network_->covers(name, weight_shape);
}
PredictedMerge Hypernetwork::predict(const LayerName& name, const LoraMatrices& subject,
                                     const LoraMatrices& style) const {
  return network_->predict(name, subject, style);
}
HypernetLayout Hypernetwork::layout() const { return network_->layout(); }
std::vector<int64_t> Hypernetwork::widths() const { return network_->widths(); }
int64_t Hypernetwork::num_hidden() const { return network_->num_hidden(); }

std::map<std::string, HypernetTensor> hypernet_tensors(HypernetLayout layout,
                                                       const std::vector<int64_t>& widths,
                                                       int64_t num_hidden) {
  return layout == HypernetLayout::kColumns ? column_network_tensors(widths, num_hidden)
                                            : feature_network_tensors(num_hidden);
}

}  // namespace molar
