#include "molar/training/lora_trainer.h"

#include <fmt/format.h>

#include "molar/training/trainable_lora.h"
#include "noise_training.h"

namespace molar {
namespace {

std::vector<PictureGroup> groups_of(const LoraTrainingOptions& options,
                                    const TrainingPictures& pictures) {
  std::vector<PictureGroup> groups{{pictures.instance, RandomStream::kInstances}};
  if (!pictures.classes.empty())
    groups.push_back({pictures.classes, RandomStream::kClasses, options.prior_weight});
  return groups;
}

/// The name of a factor in checkpoints.
NamedParameters named_factors(const TrainableLora& lora) {
  NamedParameters parameters;
  for (const auto& [name, factors] : lora.factors()) {
    parameters.emplace_back(fmt::format("{}/{}/down", name.component, name.module), factors.down);
    parameters.emplace_back(fmt::format("{}/{}/up", name.component, name.module), factors.up);
  }
  return parameters;
}

}  // namespace

class LoraTrainer::Impl {
 public:
  Impl(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
       const TrainingPictures& pictures, ProgressSink& progress,
       const CancellationToken& cancellation)
      : training(options, options.targets.contains(LoraTarget::kTextEncoder), checkpoint,
                 groups_of(options, pictures), progress, cancellation),
        lora(training.model().layers(), options) {
    training.learn(named_factors(lora));
  }

  NoiseTraining training;
  TrainableLora lora;  // after the model: detaches from it first
};

LoraTrainer::LoraTrainer(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                         const TrainingPictures& pictures, ProgressSink& progress,
                         const CancellationToken& cancellation)
    : impl_(std::make_unique<Impl>(options, checkpoint, pictures, progress, cancellation)) {}
LoraTrainer::~LoraTrainer() = default;

TrainingStep LoraTrainer::advance() { return impl_->training.advance(); }
bool LoraTrainer::finished() const { return num_steps_done() >= num_steps(); }
int64_t LoraTrainer::num_steps() const { return impl_->training.num_steps(); }
int64_t LoraTrainer::num_steps_done() const { return impl_->training.num_steps_done(); }
LoraWeights LoraTrainer::lora() const { return impl_->lora.weights(); }
StateDict LoraTrainer::state() const { return impl_->training.state(); }
void LoraTrainer::restore(const StateDict& state, int64_t num_steps_done) {
  impl_->training.restore(state, num_steps_done);
}

int64_t LoraTrainer::num_parameters() const {
  int64_t count = 0;
  for (const Tensor& parameter : impl_->lora.parameters()) count += parameter.numel();
  return count;
}

}  // namespace molar
