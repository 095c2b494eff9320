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
  /// Pictures that show a pair's subject in its style, pair by pair (all styles of the first
  /// subject first); empty lists where there are none.
  std::vector<std::vector<TrainingPicture>> joint, validation_joint;

  /// In this order.
  std::vector<const std::vector<ListedLora>*> groups() const {
    return {&subjects, &styles, &validation_subjects, &validation_styles};
  }
};

/// A step's loss is the mean over `pairs_per_step` pairs, which come in shuffled epochs, of
///   L = |eps_merged(x_s, p_s) - eps_subject(x_s, p_s)|^2 + |eps_merged(x_t, p_t) - eps_style(x_t,
///   p_t)|^2
///       + lambda * sum over predicted layers of |cos(m_s, m_t)|
///       + joint_weight * |eps_merged(x_j, p_j) - noise|^2
/// with means of squares and x, p noisy latents and captions of each LoRA's own pictures. The
/// published sum also counts to_k and to_v, whose coefficients are fixed: a constant, left out
/// here. The last line, which is not in the paper, counts for pairs with pictures x_j that show the
/// subject in the style, where the model's own target stands for the noise. Tensors start as
/// hypernet_tensors says, or as torch.nn.Linear draws them (RandomStream::kFactors: of each tensor,
/// by name).
///
/// Terms of a step: subject, style, similarity, with joint pictures joint and, every
/// `validate_every` steps and at the last, validation: the loss without similarity over all
/// validation pairs, with the same noise each time. The network of the lowest is the result.
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
    Tensor subject, style, similarity, joint;  // scalars
  };
  /// A group of pairs: every subject with every style.
  struct Pairs {
    std::vector<EncodedLora> subjects, styles;
    std::vector<std::optional<PictureSet>> joint;  // pair by pair

    size_t size() const { return subjects.size() * styles.size(); }
  };

  void make_network(const HypernetLoras& loras);
  Pass run_pass(Pairs& pairs, size_t pair, int64_t pass, int64_t batch_size, RandomSource& random,
                bool learns);
  Tensor joint_loss(PictureSet& pictures, int64_t pass, int64_t batch_size, RandomSource& random);
  double validate();
  void keep_if_best(double loss);

  HypernetOptions options_;
  TrainingModel model_;
  Pairs training_, validation_;
  EpochOrder order_;   // of the training pairs
  StateDict tensors_;  // leaves
  std::optional<NamedAdamW> optimizer_;
  std::optional<Best> best_;
  int64_t num_steps_done_ = 0;
};

}  // namespace molar
