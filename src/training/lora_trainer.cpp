#include "molar/training/lora_trainer.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <optional>

#include "molar/core/random.h"
#include "molar/training/learning_rate.h"
#include "molar/training/trainable_lora.h"
#include "named_adamw.h"
#include "training_model.h"

namespace molar {
namespace {

std::vector<std::string> all_captions(const TrainingPictures& pictures) {
  std::vector<std::string> captions = captions_of(pictures.instance);
  for (const std::string& caption : captions_of(pictures.classes)) captions.push_back(caption);
  return captions;
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
       const CancellationToken& cancellation);

  TrainingStep advance();
  int64_t num_steps() const { return options_.num_steps; }
  int64_t num_steps_done() const { return num_steps_done_; }
  const TrainableLora& lora() const { return *lora_; }
  StateDict state() const { return optimizer_->state(); }
  void restore(const StateDict& state, int64_t num_steps_done) {
    optimizer_->restore(state);
    num_steps_done_ = num_steps_done;
  }

 private:
  std::vector<TrainingRow> rows_of(int64_t pass);
  double run_pass(int64_t pass);

  LoraTrainingOptions options_;
  TrainingModel model_;
  std::optional<PictureSet> instance_, classes_;
  std::unique_ptr<TrainableLora> lora_;  // after the model: detaches from it first
  std::optional<NamedAdamW> optimizer_;
  int64_t num_steps_done_ = 0;
};

LoraTrainer::Impl::Impl(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                        const TrainingPictures& pictures, ProgressSink& progress,
                        const CancellationToken& cancellation)
    : options_(options),
      model_(checkpoint,
             {.compute = options.compute,
              .gradient_checkpointing = options.gradient_checkpointing,
              .trains_text = options.targets.contains(LoraTarget::kTextEncoder),
              .min_snr_gamma = options.min_snr_gamma},
             all_captions(pictures)) {
  const EncodePicturesOptions encode{
      .side_px = resolve_resolution(options.resolution_px, checkpoint),
      .flip = options.flip,
      .device = options.compute.device};
  const auto prepare = [&](std::optional<PictureSet>& set, const std::vector<TrainingPicture>& list,
                           RandomStream stream) {
    set.emplace(encode_pictures(list, checkpoint.component("vae"), encode, progress, cancellation),
                captions_of(list),
                EpochOrder(options.seed, stream, static_cast<int64_t>(list.size())));
  };
  prepare(instance_, pictures.instance, RandomStream::kInstances);
  if (!pictures.classes.empty()) prepare(classes_, pictures.classes, RandomStream::kClasses);

  model_.load_unet();
  lora_ = std::make_unique<TrainableLora>(model_.layers(), options);
  optimizer_.emplace(named_factors(*lora_), AdamWSettings{.beta1 = options.beta1,
                                                          .beta2 = options.beta2,
                                                          .weight_decay = options.weight_decay,
                                                          .epsilon = options.epsilon,
                                                          .max_grad_norm = options.max_grad_norm});
}

std::vector<TrainingRow> LoraTrainer::Impl::rows_of(int64_t pass) {
  std::vector<TrainingRow> rows = instance_->rows(pass, options_.batch_size);
  if (classes_)
    for (const TrainingRow& row : classes_->rows(pass, options_.batch_size)) rows.push_back(row);
  return rows;
}

/// Adds the pass's share to the gradients. Returns its loss.
double LoraTrainer::Impl::run_pass(int64_t pass) {
  const std::vector<TrainingRow> rows = rows_of(pass);
  RandomSource random(stream_seed(options_.seed, RandomStream::kPass, pass));
  const NoisyRows noisy = model_.draw(rows, options_.flip, random);
  const Tensor prediction = model_.predict(noisy, rows);
  const Tensor losses =
      model_.objective().row_losses(prediction, noisy.latents, noisy.noise, noisy.timesteps);
  Tensor loss = losses.narrow(0, 0, options_.batch_size).mean();
  if (classes_)
    loss = loss + options_.prior_weight *
                      losses.narrow(0, options_.batch_size, options_.batch_size).mean();
  (loss / static_cast<double>(options_.gradient_accumulation)).backward();
  return loss.item<double>();
}

TrainingStep LoraTrainer::Impl::advance() {
  const int64_t passes = options_.gradient_accumulation;
  TrainingStep step{.step = num_steps_done_ + 1,
                    .learning_rate = learning_rate_at(options_, num_steps_done_)};
  optimizer_->zero_grad();
  for (int64_t k = 0; k < passes; ++k)
    step.loss += run_pass(num_steps_done_ * passes + k) / static_cast<double>(passes);
  step.grad_norm = optimizer_->update(step.step, step.loss, step.learning_rate);
  ++num_steps_done_;
  return step;
}

LoraTrainer::LoraTrainer(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                         const TrainingPictures& pictures, ProgressSink& progress,
                         const CancellationToken& cancellation)
    : impl_(std::make_unique<Impl>(options, checkpoint, pictures, progress, cancellation)) {}
LoraTrainer::~LoraTrainer() = default;

TrainingStep LoraTrainer::advance() { return impl_->advance(); }
bool LoraTrainer::finished() const { return num_steps_done() >= num_steps(); }
int64_t LoraTrainer::num_steps() const { return impl_->num_steps(); }
int64_t LoraTrainer::num_steps_done() const { return impl_->num_steps_done(); }
LoraWeights LoraTrainer::lora() const { return impl_->lora().weights(); }
StateDict LoraTrainer::state() const { return impl_->state(); }
void LoraTrainer::restore(const StateDict& state, int64_t num_steps_done) {
  impl_->restore(state, num_steps_done);
}

int64_t LoraTrainer::num_parameters() const {
  int64_t count = 0;
  for (const Tensor& parameter : impl_->lora().parameters()) count += parameter.numel();
  return count;
}

}  // namespace molar
