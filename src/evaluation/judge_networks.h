/// The networks of human_judges.h, as scripts/toyland/judge_networks.py has them: convolutions that
/// batch normalisation was folded into.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "molar/io/checkpoint.h"
#include "molar/models/layers.h"

namespace molar {

inline constexpr int64_t kJudgeCropPx = 40;
inline constexpr int64_t kJudgeCellPx = 2;  ///< of the detector's maps

/// Stages that each halve the picture; the first does as `first_stride` says.
class JudgeEncoderImpl final : public torch::nn::Module {
 public:
  JudgeEncoderImpl(const std::vector<int64_t>& widths, int64_t first_stride);
  /// x: [B, 3, H, W]. Returns one map per stage: [B, widths[k], H / s / 2^k, W / s / 2^k].
  std::vector<Tensor> forward(const Tensor& x);

 private:
  torch::nn::ModuleList stages_;
};
TORCH_MODULE(JudgeEncoder);

class JudgeDetectorImpl final : public torch::nn::Module {
 public:
  JudgeDetectorImpl(const std::vector<int64_t>& widths, int64_t merged_width);
  /// pictures: [B, 3, H, W] in [-1, 1], sides multiples of 8. Returns [B, 8, H / 2, W / 2]: heat
  /// (logits) of faces and hands; for each of the two, per cell, where the middle lies from the
  /// cell's (x, y, in cells) and the logarithm of the half height in pixels.
  Tensor forward(const Tensor& pictures);

 private:
  JudgeEncoder encoder_{nullptr};
  torch::nn::ModuleList laterals_;
  Conv2d merge_{nullptr}, head_{nullptr};
};
TORCH_MODULE(JudgeDetector);

class JudgeClassifierImpl final : public torch::nn::Module {
 public:
  JudgeClassifierImpl(const std::vector<int64_t>& widths, int64_t num_outputs);
  /// crops: [B, 3, kJudgeCropPx, kJudgeCropPx]. Returns logits [B, num_outputs].
  Tensor forward(const Tensor& crops);

 private:
  JudgeEncoder encoder_{nullptr};
  Linear head_{nullptr};
};
TORCH_MODULE(JudgeClassifier);

/// The widths of the encoder's stages in a judge's weights. Throws FileError unless there are 2 to
/// 4 stages.
std::vector<int64_t> judge_widths(const Component& component);

/// The square of `half_px` pixels to each side of (x_px, y_px), [B] each: bilinear, past the
/// border the border. pictures: [B, 3, H, W]. Returns [B, 3, kJudgeCropPx, kJudgeCropPx].
Tensor crop_around(const Tensor& pictures, const Tensor& x_px, const Tensor& y_px,
                   const Tensor& half_px);

}  // namespace molar
