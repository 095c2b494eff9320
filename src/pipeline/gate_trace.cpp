#include "molar/pipeline/gate_trace.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>

namespace molar {
namespace {

constexpr int64_t kGap = 4;          // pixels between two panels
constexpr double kMapShare = 0.6;    // of a panel's colour; the rest is the picture
constexpr double kColours[3][3] = {  // of the gates 0, 1/2 and 1
    {40, 60, 170},
    {250, 220, 60},
    {200, 30, 30}};

/// gates: [H, W] in [0, 1]. Returns [H, W, 3], float32.
Tensor coloured(const Tensor& gates) {
  const auto colour = [](int row) {
    return torch::tensor({kColours[row][0], kColours[row][1], kColours[row][2]}, torch::kFloat32);
  };
  const Tensor low = (2 * gates).clamp(0, 1).unsqueeze(-1);
  const Tensor high = (2 * gates - 1).clamp(0, 1).unsqueeze(-1);
  return torch::lerp(torch::lerp(colour(0).expand({1, 1, 3}), colour(1).expand({1, 1, 3}), low),
                     colour(2).expand({1, 1, 3}), high);
}

}  // namespace

Tensor heatmap(const Tensor& pixels, const GateStep& step, size_t expert) {
  const int64_t height = pixels.size(0), width = pixels.size(1);
  const Tensor grey = pixels.to(torch::kFloat32).mean(2, /*keepdim=*/true);  // [H, W, 1]
  std::vector<Tensor> panels;
  for (const Tensor& level : step.levels) {
    if (!panels.empty()) panels.push_back(torch::full({height, kGap, 3}, 255.0));
    const Tensor map = torch::upsample_nearest2d(
        level[static_cast<int64_t>(expert)].unsqueeze(0).unsqueeze(0), {height, width})[0][0];
    panels.push_back(kMapShare * coloured(map) + (1 - kMapShare) * grey);
  }
  return torch::cat(panels, /*dim=*/1).round().clamp(0, 255).to(torch::kUInt8).contiguous();
}

std::string global_gates_svg(const GateTrace& trace) {
  constexpr double kWidth = 640, kHeight = 320, kLeft = 48, kTop = 24, kRight = 120, kBottom = 40;
  constexpr const char* kStrokes[] = {"#c81e1e", "#283caa", "#1e8c3c", "#a050c8", "#c88c1e"};
  const double plot_width = kWidth - kLeft - kRight, plot_height = kHeight - kTop - kBottom;
  const auto last = static_cast<double>(std::max<size_t>(trace.steps.size(), 2) - 1);
  const auto x_of = [&](double step) { return kLeft + plot_width * step / last; };
  const auto y_of = [&](double gate) { return kTop + plot_height * (1 - gate); };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<title>Global gates over the sampling</title>\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, kHeight);
  for (const double gate : {0.0, 0.25, 0.5, 0.75, 1.0})
    svg += fmt::format(
        "<line x1=\"{}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ccc\"/>\n"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
        kLeft, y_of(gate), kLeft + plot_width, y_of(gate), kLeft - 6, y_of(gate) + 4, gate);
  svg += fmt::format(
      "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">model evaluation, 1 to {}</text>\n",
      kLeft + plot_width / 2, kHeight - 12, trace.steps.size());
  for (size_t e = 0; e < trace.experts.size(); ++e) {
    const char* stroke = kStrokes[e % std::size(kStrokes)];
    // A curve is broken where the experts did not act: a new path begins.
    std::string path;
    bool pen_down = false;
    for (size_t i = 0; i < trace.steps.size(); ++i) {
      const GateStep& step = trace.steps[i];
      if (!step.global.empty())
        path += fmt::format("{}{:.1f} {:.1f} ", pen_down ? "L" : "M", x_of(static_cast<double>(i)),
                            y_of(step.global[e]));
      pen_down = !step.global.empty();
    }
    svg += fmt::format(
        "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n"
        "<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\">{}</text>\n",
        path, stroke, kLeft + plot_width + 10, kTop + 14 + 18 * static_cast<double>(e), stroke,
        trace.experts[e]);
  }
  return svg + "</svg>\n";
}

}  // namespace molar
