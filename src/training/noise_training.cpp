#include "noise_training.h"

#include <torch/torch.h>

#include "molar/core/random.h"
#include "molar/training/learning_rate.h"

namespace molar {
namespace {

const std::string kEmptyCaption;

std::vector<std::string> all_captions(const std::vector<PictureGroup>& groups, bool with_empty) {
  std::vector<std::string> captions;
  for (const PictureGroup& group : groups)
    for (const std::string& caption : captions_of(group.pictures)) captions.push_back(caption);
  if (with_empty) captions.push_back(kEmptyCaption);
  return captions;
}

/// Takes the captions of some rows away. See Note [Order of randomness].
void empty_captions(std::vector<TrainingRow>& rows, double proportion, RandomSource& random) {
  const Tensor draws = random.uniform({static_cast<int64_t>(rows.size())}, 0, 1);
  for (size_t i = 0; i < rows.size(); ++i)
    if (draws[static_cast<int64_t>(i)].item<double>() < proportion)
      rows[i].caption = &kEmptyCaption;
}

}  // namespace

NoiseTraining::NoiseTraining(const PictureTrainingOptions& options, bool trains_text,
                             const Checkpoint& checkpoint, const std::vector<PictureGroup>& groups,
                             ProgressSink& progress, const CancellationToken& cancellation)
    : options_(options),
      model_(checkpoint,
             {.compute = options.compute,
              .gradient_checkpointing = options.gradient_checkpointing,
              .trains_text = trains_text,
              .min_snr_gamma = options.min_snr_gamma},
             all_captions(groups, options.proportion_empty_prompts > 0), progress, cancellation) {
  const EncodePicturesOptions encode{
      .side_px = resolve_resolution(options.resolution_px, checkpoint),
      .flip = options.flip,
      .device = options.compute.device};
  for (const PictureGroup& group : groups) {
    const auto count = static_cast<int64_t>(group.pictures.size());
    groups_.push_back(
        {PictureSet(encode_pictures(group.pictures, checkpoint.component("vae"), encode, progress,
                                    cancellation),
                    captions_of(group.pictures), EpochOrder(options.seed, group.order, count)),
         group.weight});
  }
  model_.load_unet();
}

void NoiseTraining::learn(const NamedParameters& parameters) {
  optimizer_.emplace(parameters, AdamWSettings{.beta1 = options_.beta1,
                                               .beta2 = options_.beta2,
                                               .weight_decay = options_.weight_decay,
                                               .epsilon = options_.epsilon,
                                               .max_grad_norm = options_.max_grad_norm});
}

/// Adds the pass's share to the gradients. Returns its loss.
double NoiseTraining::run_pass(int64_t pass) {
  std::vector<TrainingRow> rows;
  for (EncodedGroup& group : groups_)
    for (const TrainingRow& row : group.pictures.rows(pass, options_.batch_size))
      rows.push_back(row);
  RandomSource random(stream_seed(options_.seed, RandomStream::kPass, pass));
  const NoisyRows noisy = model_.draw(rows, options_.flip, random);
  if (const double proportion = options_.proportion_empty_prompts; proportion > 0)
    empty_captions(rows, proportion, random);
  const Tensor prediction = model_.predict(noisy, rows);
  const Tensor losses =
      model_.objective().row_losses(prediction, noisy.latents, noisy.noise, noisy.timesteps);
  Tensor loss = torch::zeros({}, losses.options());
  for (size_t i = 0; i < groups_.size(); ++i)
    loss = loss +
           groups_[i].weight *
               losses.narrow(0, static_cast<int64_t>(i) * options_.batch_size, options_.batch_size)
                   .mean();
  (loss / static_cast<double>(options_.gradient_accumulation)).backward();
  return loss.item<double>();
}

TrainingStep NoiseTraining::advance() {
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

}  // namespace molar
