/// ZipLoRA: one coefficient per column of two LoRAs' changes, learnt through the frozen model.
/// Shah et al. 2023, arXiv:2311.13600.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "molar/adapters/merge/merge_coefficients.h"
#include "molar/training/stepwise_trainer.h"
#include "named_adamw.h"
#include "taught_lora.h"
#include "training_model.h"
#include "weighed_pair.h"

namespace molar {

///   L = |eps_merged(x_s, p_s) - eps_subject(x_s, p_s)|^2 + |eps_merged(x_t, p_t) - eps_style(x_t,
///   p_t)|^2
///       + lambda * mean over layers of mean_j |m_s[j] m_t[j]|
/// with means of squares, x noisy latents of each LoRA's own pictures, and all coefficients 1 at
/// the start. The penalty is a mean where the paper sums over layers: a sum over hundreds of layers
/// would outweigh the other two terms a hundredfold. Every linear layer of the UNet that both
/// change has coefficients. Terms of a step: subject, style, similarity.
class ZiploraTrainer : public StepwiseTrainer {
 public:
  /// `pair`: the subject and the style. `checkpoint` must outlive this. Throws FileError,
  /// InputError, StoppedError; FitError where the LoRAs have no linear layer in common.
  ZiploraTrainer(const MergeTrainingOptions& options, const Checkpoint& checkpoint,
                 const std::vector<ListedLora>& pair, ProgressSink& progress,
                 const CancellationToken& cancellation);

  TrainingStep advance() override;
  bool finished() const override { return num_steps_done_ >= options_.num_steps; }
  int64_t num_steps() const override { return options_.num_steps; }
  int64_t num_steps_done() const override { return num_steps_done_; }
  StateDict state() const override { return optimizer_->state(); }
  void restore(const StateDict& state, int64_t num_steps_done) override;

  MergeCoefficients coefficients() const;

 private:
  Tensor similarity() const;

  MergeTrainingOptions options_;
  TrainingModel model_;
  std::vector<EncodedLora> loras_;            // subject, style
  std::unique_ptr<WeighedPair> pair_;         // after the model: detaches from it first
  std::map<LayerName, Tensor> coefficients_;  // [2, in] each
  std::optional<NamedAdamW> optimizer_;
  int64_t num_steps_done_ = 0;
};

}  // namespace molar
