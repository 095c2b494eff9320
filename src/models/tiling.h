/// Work on a large map in overlapping tiles, as diffusers' AutoencoderKL does.
#pragma once

#include <cstdint>
#include <functional>

#include "molar/core/tensor.h"

namespace molar {

/// Sides in pixels of the map they belong to.
struct TileSizes {
  int64_t tile;    ///< side of a tile of the input
  int64_t stride;  ///< from one tile to the next, in the input
  int64_t blend;   ///< how many rows and columns of a result fade over its neighbour's
  int64_t kept;    ///< side of what is kept of each blended result

  /// `input`, `output`: sides of one whole tile; a quarter overlaps. Throws Error where the stride
  /// would be zero.
  static TileSizes with_quarter_overlap(int64_t input, int64_t output);
};

/// x: [B, C, H, W]. Applies `work` to each tile ([B, C, <= tile, <= tile]), fades each result into
/// the ones above and to the left, and joins what is kept. At most two rows of results are in
/// memory.
Tensor map_tiles(const Tensor& x, const TileSizes& sizes,
                 const std::function<Tensor(const Tensor&)>& work);

}  // namespace molar
