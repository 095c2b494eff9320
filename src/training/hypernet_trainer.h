/// Teaches LoRA.rar's hypernetwork on many pairs of LoRAs. Shenaj et al. 2024, arXiv:2412.05148.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "molar/adapters/hypernetwork.h"
#include "molar/training/stepwise_trainer.h"
#include "named_adamw.h"
#include "taught_lora.h"
#include "training_model.h"
#include "weighed_pair.h"

namespace molar {

/// What it learns from and, if any, what it is validated on.
struct HypernetLoras {
  std::vector<ListedLora> subjects, styles, validation_subjects, validation_styles;

  /// In this order.
  std::vector<const std::vector<ListedLora>*> groups() const {
    return {&subjects, &styles, &validation_subjects, &validation_styles};
  }
};

/// A step's loss is the mean over `pairs_per_step` pairs, which come in shuffled epochs, of
///   L = |eps_merged(x_s, p_s) - eps_subject(x_s, p_s)|^2 + |eps_merged(x_t, p_t) - eps_style(x_t,
///   p_t)|^2
///       + lambda * sum over predicted layers of |cos(m_s, m_t)|
/// with means of squares and x, p noisy latents and captions of each LoRA's own pictures. The
/// published sum also counts to_k and to_v, whose coefficients are fixed: a constant, left out
/// here. The output's bias starts at 1, so that training starts at the sum of both; all else as
/// torch.nn.Linear draws it (RandomStream::kFactors: of each tensor, by name).
///
/// Terms of a step: subject, style, similarity and, every `validate_every` steps and at the last,
/// validation: the mean of the first two parts over all validation pairs, with the same noise each
/// time. The network of the lowest is the result.
class HypernetTrainer : public StepwiseTrainer {
 public:
  /// `checkpoint` must outlive this. Throws FileError, InputError, StoppedError; FitError for a
  /// pair without a layer to predict.
  HypernetTrainer(const HypernetOptions& options, const Checkpoint& checkpoint,
                  const HypernetLoras& loras, ProgressSink& progress,
                  const CancellationToken& cancellation);

  TrainingStep advance() override;
  bool finished() const override;
  int64_t num_steps() const override { return options_.run.num_steps; }
  int64_t num_steps_done() const override { return num_steps_done_; }
  StateDict state() const override;
  void restore(const StateDict& state, int64_t num_steps_done) override;

  /// The best so far, or where nothing is validated the latest; in the published layout.
  StateDict network() const;

 private:
  struct Best {
    StateDict network;
    double loss = 0;
    int64_t validations_since = 0;
  };
  struct Pass {
    Tensor subject, style, similarity;  // scalars
  };

  void make_network(const HypernetLoras& loras);
  Pass run_pass(EncodedLora& subject, EncodedLora& style, int64_t pass, int64_t batch_size,
                RandomSource& random, bool learns);
  double validate();
  void keep_if_best(double loss);

  HypernetOptions options_;
  TrainingModel model_;
  std::vector<EncodedLora> subjects_, styles_, validation_subjects_, validation_styles_;
  EpochOrder pairs_;
  StateDict tensors_;  // leaves
  std::optional<NamedAdamW> optimizer_;
  std::optional<Best> best_;
  int64_t num_steps_done_ = 0;
};

}  // namespace molar
