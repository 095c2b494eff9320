#include "tiling.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "molar/core/error.h"

namespace molar {
namespace {

/// Fades the first `extent` slices of `result` along `dim` in over the last ones of `before`, in
/// place:
///   result[i] = before[n - extent + i] * (1 - i / extent) + result[i] * (i / extent)
void fade_in_(const Tensor& result, const Tensor& before, int64_t dim, int64_t extent) {
  extent = std::min({extent, result.size(dim), before.size(dim)});
  if (extent == 0) return;
  const auto exact = at::TensorOptions().dtype(at::kDouble);
  Tensor weight = at::arange(extent, exact) / static_cast<double>(extent);
  weight = dim == 2 ? weight.view({1, 1, extent, 1}) : weight.view({1, 1, 1, extent});
  const Tensor last = before.narrow(dim, before.size(dim) - extent, extent);
  Tensor first = result.narrow(dim, 0, extent);
  first.mul_(weight.to(result.options())).add_(last * (1 - weight).to(result.options()));
}

}  // namespace

TileSizes TileSizes::with_quarter_overlap(int64_t input, int64_t output) {
  constexpr double kOverlap = 0.25;
  const auto stride = static_cast<int64_t>(static_cast<double>(input) * (1 - kOverlap));
  const auto blend = static_cast<int64_t>(static_cast<double>(output) * kOverlap);
  if (stride < 1)
    throw Error(
        fmt::format("a tile of {} has no room to overlap by a quarter; wanted 2 or more", input));
  return {.tile = input, .stride = stride, .blend = blend, .kept = output - blend};
}

Tensor map_tiles(const Tensor& x, const TileSizes& sizes,
                 const std::function<Tensor(const Tensor&)>& work) {
  const auto piece = [&](const Tensor& from, int64_t dim, int64_t start) {
    return from.narrow(dim, start, std::min(sizes.tile, from.size(dim) - start));
  };
  const auto kept = [&](const Tensor& result) {
    return result.narrow(2, 0, std::min(sizes.kept, result.size(2)))
        .narrow(3, 0, std::min(sizes.kept, result.size(3)));
  };
  std::vector<Tensor> above, joined_rows;
  for (int64_t top = 0; top < x.size(2); top += sizes.stride) {
    const Tensor strip = piece(x, 2, top);
    std::vector<Tensor> row, kept_row;
    for (int64_t left = 0; left < x.size(3); left += sizes.stride) {
      const Tensor result = work(piece(strip, 3, left));
      // A neighbour is faded itself when it fades into this one: the order matters.
      if (!above.empty()) fade_in_(result, above[row.size()], 2, sizes.blend);
      if (!row.empty()) fade_in_(result, row.back(), 3, sizes.blend);
      kept_row.push_back(kept(result));
      row.push_back(result);
    }
    joined_rows.push_back(at::cat(kept_row, 3));
    above = std::move(row);
  }
  return at::cat(joined_rows, 2);
}

}  // namespace molar
