#include "molar/pipeline/expert_regions.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/io/image.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kHistogramBins = 256;
// Gates closer together than this everywhere show no part of the picture.
constexpr double kLeastContrast = 0.02;

Tensor box_mask(const ExpertRegion& region, const PixelBox& box, MapSize picture_px) {
  if (box.x + box.width > picture_px.width || box.y + box.height > picture_px.height)
    throw ConfigError(fmt::format(
        "--region {}={},{},{},{}: wanted x,y,width,height inside the picture of {} x "
        "{} pixels",
        region.expert, box.x, box.y, box.width, box.height, picture_px.width, picture_px.height));
  const Tensor mask = torch::zeros({picture_px.height, picture_px.width});
  mask.narrow(0, box.y, box.height).narrow(1, box.x, box.width).fill_(1.0);
  return mask;
}

Tensor picture_mask(const ExpertRegion& region, const fs::path& path, MapSize picture_px) {
  const Tensor mask = read_mask(path);
  if (mask.size(0) != picture_px.height || mask.size(1) != picture_px.width)
    throw InputError(fmt::format(
        "--region {}='{}' has {} x {} pixels; wanted the picture's {} x {}", region.expert,
        path.string(), mask.size(1), mask.size(0), picture_px.width, picture_px.height));
  return mask.to(torch::kFloat32) / 255.0;
}

/// [H, W] -> height x width: the mean of what each position covers.
Tensor resized(const Tensor& mask, MapSize size) {
  return torch::adaptive_avg_pool2d(mask.unsqueeze(0), {size.height, size.width})[0];
}

}  // namespace

ExpertRegions::ExpertRegions(const std::vector<ExpertRegion>& regions,
                             std::vector<std::string> experts, MapSize picture_px) {
  if (regions.empty()) return;
  for (std::string& name : experts) experts_.push_back({.expert = std::move(name), .mask = {}});
  for (const ExpertRegion& region : regions) {
    const auto found = std::ranges::find(experts_, region.expert, &Region::expert);
    if (found == experts_.end()) {
      std::vector<std::string> names;
      for (const Region& one : experts_) names.push_back(one.expert);
      throw ConfigError(fmt::format("--region {}=...: wanted one of the experts {}", region.expert,
                                    fmt::join(names, ", ")));
    }
    const bool by_gates = std::holds_alternative<FoundByGates>(region.where);
    if (found->by_gates || (by_gates && found->mask.defined()))
      throw ConfigError(fmt::format("--region {}=auto finds the region; wanted no other of '{}'",
                                    region.expert, region.expert));
    found->by_gates = by_gates;
    if (by_gates) continue;
    const auto* box = std::get_if<PixelBox>(&region.where);
    const Tensor mask = box ? box_mask(region, *box, picture_px)
                            : picture_mask(region, std::get<fs::path>(region.where), picture_px);
    found->mask = found->mask.defined() ? torch::maximum(found->mask, mask) : mask;
  }
}

bool ExpertRegions::waits() const {
  return std::ranges::any_of(experts_,
                             [](const Region& one) { return one.by_gates && !one.found; });
}

void ExpertRegions::forget_found() {
  for (Region& one : experts_)
    if (one.by_gates) {
      one.found = false;
      one.mask.reset();
    }
}

std::vector<std::string> ExpertRegions::find_in(const GateStep& step) {
  std::vector<std::string> alike;
  const at::IntArrayRef finest = step.levels.front().sizes().slice(1);  // [H, W]
  for (size_t e = 0; e < experts_.size(); ++e) {
    Region& one = experts_[e];
    if (!one.by_gates || one.found) continue;
    one.found = true;
    Tensor map = torch::zeros({1, 1, finest[0], finest[1]});
    for (const Tensor& level : step.levels)
      map += torch::upsample_bilinear2d(level[static_cast<int64_t>(e)].unsqueeze(0).unsqueeze(0),
                                        finest, /*align_corners=*/false);
    map /= static_cast<double>(step.levels.size());
    if ((map.max() - map.min()).item<double>() < kLeastContrast) {
      alike.push_back(one.expert);
      continue;
    }
    const Tensor high = (map > otsu_threshold(map)).to(torch::kFloat32);
    one.mask = torch::max_pool2d(high, /*kernel_size=*/3, /*stride=*/1, /*padding=*/1)[0][0];
  }
  return alike;
}

Tensor ExpertRegions::tokens(MapSize size) const {
  std::vector<Tensor> columns;
  for (const Region& one : experts_)
    columns.push_back(one.mask.defined() ? resized(one.mask, size).flatten()
                                         : torch::ones({size.height * size.width}));
  return torch::stack(columns, /*dim=*/1);
}

double otsu_threshold(const Tensor& values) {
  const double low = values.min().item<double>(), high = values.max().item<double>();
  const Tensor counts = torch::histc(values, kHistogramBins, low, high).to(torch::kFloat64);
  const double width = (high - low) / kHistogramBins;
  const Tensor centres = low + width * (torch::arange(kHistogramBins, torch::kFloat64) + 0.5);
  const Tensor below = counts.cumsum(0), sums = (counts * centres).cumsum(0);
  const Tensor above = below[-1] - below;
  // Variance between the classes; where one is empty there is none.
  const Tensor difference = sums / below - (sums[-1] - sums) / above;
  const Tensor between = (below * above * difference.square()).nan_to_num(0.0, 0.0, 0.0);
  return low + width * static_cast<double>(between.argmax().item<int64_t>() + 1);
}

}  // namespace molar
