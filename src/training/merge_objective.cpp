#include "merge_objective.h"

#include <torch/torch.h>

namespace molar {

ReconstructionLosses reconstruction_losses(TrainingModel& model, WeighedPair& pair,
                                           const std::vector<TrainingRow>& subject_rows,
                                           const std::vector<TrainingRow>& style_rows,
                                           RandomSource& random) {
  std::vector<TrainingRow> rows = subject_rows;
  rows.insert(rows.end(), style_rows.begin(), style_rows.end());
  const NoisyRows noisy = model.draw(rows, /*flip=*/false, random);
  const auto num_subject = static_cast<int64_t>(subject_rows.size());
  const auto num_style = static_cast<int64_t>(style_rows.size());
  const auto alone = [&](WeighedPair::Acting acting, const std::vector<TrainingRow>& own,
                         int64_t first) {
    const torch::NoGradGuard no_grad;
    pair.act(acting);
    return model.predict(noisy.narrow(first, static_cast<int64_t>(own.size())), own);
  };
  const Tensor subject = alone(WeighedPair::Acting::kSubject, subject_rows, 0);
  const Tensor style = alone(WeighedPair::Acting::kStyle, style_rows, num_subject);
  // Last: layers whose activations are recomputed run again in the backward pass.
  pair.act(WeighedPair::Acting::kMerged);
  const Tensor merged = model.predict(noisy, rows);
  return {torch::mse_loss(merged.narrow(0, 0, num_subject), subject),
          torch::mse_loss(merged.narrow(0, num_subject, num_style), style)};
}

}  // namespace molar
