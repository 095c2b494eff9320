#include "tiling.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "molar/core/error.h"
#include "support/expect_close.h"

namespace molar {
namespace {

TEST(Tiling, AQuarterOverlapsAndPartsAreCutToWholeNumbers) {
  const TileSizes sd = TileSizes::with_quarter_overlap(64, 512);
  EXPECT_EQ(sd.tile, 64);
  EXPECT_EQ(sd.stride, 48);
  EXPECT_EQ(sd.blend, 128);
  EXPECT_EQ(sd.kept, 384);
  const TileSizes odd = TileSizes::with_quarter_overlap(9, 18);
  EXPECT_EQ(odd.stride, 6);
  EXPECT_EQ(odd.blend, 4);
  EXPECT_EQ(odd.kept, 14);
}

TEST(Tiling, ATileWithoutRoomIsRefused) {
  try {
    TileSizes::with_quarter_overlap(1, 8);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("a tile of 1"), std::string::npos) << error.what();
  }
}

TEST(Tiling, WorkThatKeepsPixelsIsNotChangedByTiles) {
  const Tensor x = torch::arange(2 * 3 * 23 * 37, at::kFloat).view({2, 3, 23, 37});
  int tiles = 0;
  const Tensor joined =
      map_tiles(x, TileSizes::with_quarter_overlap(8, 8), [&](const Tensor& tile) {
        ++tiles;
        return tile.clone();
      });
  EXPECT_TRUE(is_close(joined, x));
  EXPECT_EQ(tiles, 4 * 7);
}

TEST(Tiling, NeighboursFadeIntoEachOther) {
  // Two tiles of 8 columns, stride 6, of constant results 0 and 1: the second fades in over 2
  // columns.
  float value = 0;
  const Tensor joined =
      map_tiles(torch::zeros({1, 1, 4, 10}), TileSizes::with_quarter_overlap(8, 8),
                [&](const Tensor& tile) { return torch::full_like(tile, value++); });
  const Tensor row = torch::tensor({0.F, 0.F, 0.F, 0.F, 0.F, 0.F, 0.F, 0.5F, 1.F, 1.F});
  EXPECT_TRUE(is_close(joined, row.view({1, 1, 1, 10}).expand({1, 1, 4, 10}))) << joined;
}

}  // namespace
}  // namespace molar
