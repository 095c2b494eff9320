#include "molar/pipeline/gate_trace.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace molar {
namespace {

TEST(Heatmap, ShowsEachLevelOverThePicture) {
  const Tensor pixels = at::full({16, 24, 3}, 100, at::kByte);
  GateStep step;
  Tensor fine = at::zeros({1, 4, 6});
  fine[0][0][0] = 1.0;
  step.levels = {fine, at::full({1, 2, 3}, 0.5)};
  const Tensor map = heatmap(pixels, step, 0);
  ASSERT_EQ(map.scalar_type(), at::kByte);
  ASSERT_EQ(map.sizes(), at::IntArrayRef({16, 52, 3}));  // two panels and a gap of 4
  const auto colour = [&](int64_t y, int64_t x) {
    return std::vector<int>{map[y][x][0].item<int>(), map[y][x][1].item<int>(),
                            map[y][x][2].item<int>()};
  };
  EXPECT_EQ(colour(3, 3), (std::vector<int>{160, 58, 58})) << "red: 0.6 of it, 0.4 of the picture";
  EXPECT_EQ(colour(4, 4), (std::vector<int>{64, 76, 142})) << "blue";
  EXPECT_EQ(colour(8, 25), (std::vector<int>{255, 255, 255})) << "the gap";
  EXPECT_EQ(colour(8, 40), (std::vector<int>{190, 172, 76})) << "yellow";
}

TEST(GlobalGatesSvg, DrawsACurveForEachExpertAndBreaksIt) {
  GateTrace trace{.experts = {"face", "hand"}, .steps = {}};
  for (const double gate : {0.0, 0.5, 1.0})
    trace.steps.push_back({.global = {gate, 1 - gate}, .levels = {}});
  trace.steps.insert(trace.steps.begin() + 2, GateStep{});  // without experts
  const std::string svg = global_gates_svg(trace);
  EXPECT_TRUE(svg.starts_with("<svg ")) << svg;
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  EXPECT_NE(svg.find(">face</text>"), std::string::npos);
  EXPECT_NE(svg.find("model evaluation, 1 to 4"), std::string::npos);
  // 0 at the bottom, 1/2 in the middle; after the gap a new piece at the top right.
  EXPECT_NE(svg.find("d=\"M48.0 280.0 L205.3 152.0 M520.0 24.0 \""), std::string::npos) << svg;
}

}  // namespace
}  // namespace molar
