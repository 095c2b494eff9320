#include "ziplora_trainer.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include "merge_objective.h"
#include "molar/core/error.h"

namespace molar {

ZiploraTrainer::ZiploraTrainer(const MergeTrainingOptions& options, const Checkpoint& checkpoint,
                               const std::vector<ListedLora>& pair, ProgressSink& progress,
                               const CancellationToken& cancellation)
    : options_(options),
      model_(checkpoint, training_model_options(options), captions_of(pair)),
      loras_(encode_taught_loras(pair, checkpoint, options, progress, cancellation)) {
  model_.load_unet();
  pair_ = std::make_unique<WeighedPair>(model_.unet_layers(), loras_[0].weights, loras_[1].weights);
  NamedParameters parameters;
  for (const LayerName& name : pair_->weighable()) {
    if (pair_->weight_shape(name).size() != 2) continue;  // a convolution
    const Tensor& down = pair_->subject(name).down;
    const Tensor ones = torch::ones({2, down.size(1)}, down.options()).requires_grad_();
    coefficients_[name] = ones;
    pair_->weigh(name, ones);
    parameters.emplace_back(name.module, ones);
  }
  if (parameters.empty())
    throw FitError(
        fmt::format("'{}' and '{}' change no linear layer of the UNet in common: there "
                    "are no columns to weigh",
                    loras_[0].weights.path.string(), loras_[1].weights.path.string()));
  optimizer_.emplace(parameters, AdamWSettings{.weight_decay = 0, .max_grad_norm = 0});
}

Tensor ZiploraTrainer::similarity() const {
  std::vector<Tensor> layers;
  for (const auto& [name, m] : coefficients_) layers.push_back((m[0] * m[1]).abs().mean());
  return torch::stack(layers).mean();
}

TrainingStep ZiploraTrainer::advance() {
  const int64_t pass = num_steps_done_;
  RandomSource random(stream_seed(options_.seed, RandomStream::kPass, pass));
  optimizer_->zero_grad();
  const ReconstructionLosses losses =
      reconstruction_losses(model_, *pair_, loras_[0].pictures.rows(pass, options_.batch_size),
                            loras_[1].pictures.rows(pass, options_.batch_size), random);
  const Tensor penalty = similarity();
  const Tensor loss = losses.subject + losses.style + options_.similarity_weight * penalty;
  loss.backward();
  TrainingStep step{.step = pass + 1,
                    .loss = loss.item<double>(),
                    .learning_rate = options_.learning_rate,
                    .terms = {{"subject", losses.subject.item<double>()},
                              {"style", losses.style.item<double>()},
                              {"similarity", penalty.item<double>()}}};
  step.grad_norm = optimizer_->update(step.step, step.loss, step.learning_rate);
  ++num_steps_done_;
  return step;
}

void ZiploraTrainer::restore(const StateDict& state, int64_t num_steps_done) {
  optimizer_->restore(state);
  num_steps_done_ = num_steps_done;
}

MergeCoefficients ZiploraTrainer::coefficients() const {
  MergeCoefficients coefficients;
  for (const auto& [name, values] : coefficients_)
    coefficients.layers[name] = values.detach().to(torch::kCPU);
  coefficients.subject_sha256 = loras_[0].sha256;
  coefficients.style_sha256 = loras_[1].sha256;
  return coefficients;
}

}  // namespace molar
