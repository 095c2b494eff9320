#include "judge_networks.h"

#include <fmt/format.h>

#include <algorithm>

#include "molar/core/error.h"

namespace molar {
namespace {

constexpr int64_t kNumKinds = 2;  // faces, hands

Conv2d convolution(int64_t inputs, int64_t outputs, int64_t kernel_size = 3, int64_t stride = 1) {
  return Conv2d(Conv2dOptions{.in_channels = inputs,
                              .out_channels = outputs,
                              .kernel_size = kernel_size,
                              .stride = stride,
                              .padding = kernel_size / 2});
}

/// Widens and halves, then one residual block (He et al. 2015, arXiv:1512.03385).
class JudgeStageImpl final : public torch::nn::Module {
 public:
  JudgeStageImpl(int64_t inputs, int64_t outputs, int64_t stride) {
    enter_ = register_module("enter", convolution(inputs, outputs, 3, stride));
    conv1_ = register_module("conv1", convolution(outputs, outputs));
    conv2_ = register_module("conv2", convolution(outputs, outputs));
  }

  Tensor forward(const Tensor& x) {
    const Tensor entered = at::relu(enter_(x));
    return at::relu(entered + conv2_(at::relu(conv1_(entered))));
  }

 private:
  Conv2d enter_{nullptr}, conv1_{nullptr}, conv2_{nullptr};
};
TORCH_MODULE(JudgeStage);

}  // namespace

JudgeEncoderImpl::JudgeEncoderImpl(const std::vector<int64_t>& widths, int64_t first_stride) {
  stages_ = register_module("stages", torch::nn::ModuleList());
  int64_t inputs = 3;
  for (const int64_t width : widths) {
    stages_->push_back(JudgeStage(inputs, width, stages_->is_empty() ? first_stride : 2));
    inputs = width;
  }
}

std::vector<Tensor> JudgeEncoderImpl::forward(const Tensor& x) {
  std::vector<Tensor> maps{x};
  for (const auto& stage : *stages_)
    maps.push_back(stage->as<JudgeStageImpl>()->forward(maps.back()));
  maps.erase(maps.begin());
  return maps;
}

JudgeDetectorImpl::JudgeDetectorImpl(const std::vector<int64_t>& widths, int64_t merged_width) {
  encoder_ = register_module("encoder", JudgeEncoder(widths, kJudgeCellPx));
  laterals_ = register_module("laterals", torch::nn::ModuleList());
  for (const int64_t width : widths) laterals_->push_back(convolution(width, merged_width, 1));
  merge_ = register_module("merge", convolution(merged_width, merged_width));
  head_ = register_module("head", convolution(merged_width, 4 * kNumKinds, 1));
}

Tensor JudgeDetectorImpl::forward(const Tensor& pictures) {
  const std::vector<Tensor> maps = encoder_(pictures);
  Tensor x;  // from the coarsest map up
  for (size_t k = laterals_->size(); k-- > 0;) {
    const Tensor lateral = laterals_->at<Conv2dImpl>(k).forward(maps[k]);
    x = x.defined() ? at::upsample_nearest2d(x, lateral.sizes().slice(2)) + lateral : lateral;
  }
  return head_(at::relu(merge_(at::relu(x))));
}

JudgeClassifierImpl::JudgeClassifierImpl(const std::vector<int64_t>& widths, int64_t num_outputs) {
  encoder_ = register_module("encoder", JudgeEncoder(widths, 1));
  const int64_t side = kJudgeCropPx >> (widths.size() - 1);
  head_ = register_module("head", Linear(widths.back() * side * side, num_outputs));
}

Tensor JudgeClassifierImpl::forward(const Tensor& crops) {
  return head_(encoder_(crops).back().flatten(1));
}

std::vector<int64_t> judge_widths(const Component& component) {
  std::vector<int64_t> widths;
  for (int64_t k = 0;; ++k) {
    const auto found = component.weights.find(fmt::format("encoder.stages.{}.enter.weight", k));
    if (found == component.weights.end() || found->second.dim() == 0) break;
    widths.push_back(found->second.size(0));
  }
  if (widths.size() < 2 || widths.size() > 4 || std::ranges::find(widths, 0) != widths.end())
    throw FileError(fmt::format("'{}' has {} stages (encoder.stages.N.enter.weight), wanted 2 to 4",
                                component.source, widths.size()));
  return widths;
}

Tensor crop_around(const Tensor& pictures, const Tensor& x_px, const Tensor& y_px,
                   const Tensor& half_px) {
  const Tensor steps =
      (at::arange(kJudgeCropPx, pictures.options()) + 0.5) / kJudgeCropPx * 2 - 1;  // [-1, 1]
  const auto line = [&](const Tensor& middle_px, int64_t side_px) {
    return (middle_px.unsqueeze(1) + half_px.unsqueeze(1) * steps) * 2 /
               static_cast<double>(side_px) -
           1;
  };
  const std::vector<int64_t> shape{pictures.size(0), kJudgeCropPx, kJudgeCropPx};
  const Tensor columns = line(x_px, pictures.size(3)).unsqueeze(1).expand(shape);
  const Tensor rows = line(y_px, pictures.size(2)).unsqueeze(2).expand(shape);
  constexpr int64_t kBilinear = 0, kBorder = 1;
  return at::grid_sampler_2d(pictures, at::stack({columns, rows}, -1), kBilinear, kBorder,
                             /*align_corners=*/false);
}

}  // namespace molar
