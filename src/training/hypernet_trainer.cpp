#include "hypernet_trainer.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <cmath>
#include <set>

#include "merge_objective.h"
#include "molar/core/error.h"

namespace molar {
namespace {

constexpr int64_t kValidationDraws = 4;  // of noise for each pair
constexpr int64_t kValidationRows = 4;   // of each LoRA's pictures in each
constexpr const char *kBest = "best/", *kBestNumbers = "best";

std::vector<std::string> all_captions(const HypernetLoras& loras) {
  std::vector<std::string> captions;
  for (const std::vector<ListedLora>* group : loras.groups())
    for (const std::string& caption : captions_of(*group)) captions.push_back(caption);
  for (const auto* lists : {&loras.joint, &loras.validation_joint})
    for (const std::vector<TrainingPicture>& pictures : *lists)
      for (const std::string& caption : captions_of(pictures)) captions.push_back(caption);
  return captions;
}

/// Outputs of the layers to be predicted. Throws FitError for a pair without one.
std::set<int64_t> predictable_widths(HypernetLayout layout, const LoraWeights& subject,
                                     const LoraWeights& style) {
  std::set<int64_t> widths;
  for (const auto& [name, layer] : subject.layers)
    if (is_predictable_layer(layout, name, layer.weight_shape) && style.layers.contains(name))
      widths.insert(layer.weight_shape.front());
  if (widths.empty())
    throw FitError(fmt::format("'{}' and '{}' have no {} in common: there is nothing to predict",
                               subject.path.string(), style.path.string(),
                               layout == HypernetLayout::kColumns
                                   ? "UNet attention's to_q or to_out.0"
                                   : "layer of the UNet"));
  return widths;
}

/// Of all pairs that are learnt from. Pairs of the validation are checked as well.
std::set<int64_t> predictable_widths(HypernetLayout layout, const HypernetLoras& loras) {
  std::set<int64_t> widths;
  for (const ListedLora& subject : loras.subjects)
    for (const ListedLora& style : loras.styles)
      widths.merge(predictable_widths(layout, subject.weights, style.weights));
  for (const ListedLora& subject : loras.validation_subjects)
    for (const ListedLora& style : loras.validation_styles)
      predictable_widths(layout, subject.weights, style.weights);
  return widths;
}

}  // namespace

HypernetTrainer::HypernetTrainer(const HypernetOptions& options, const Checkpoint& checkpoint,
                                 const HypernetLoras& loras, ProgressSink& progress,
                                 const CancellationToken& cancellation)
    : options_(options),
      model_(checkpoint, training_model_options(options.run), all_captions(loras)),
      order_(options.run.seed, RandomStream::kPairs,
             static_cast<int64_t>(loras.subjects.size() * loras.styles.size())) {
  // All pictures at once: the VAE is loaded for it.
  std::vector<std::vector<TrainingPicture>> lists;
  for (const std::vector<ListedLora>* group : loras.groups())
    for (const ListedLora& lora : *group) lists.push_back(lora.pictures);
  for (const auto* joint : {&loras.joint, &loras.validation_joint})
    for (const std::vector<TrainingPicture>& pictures : *joint)
      if (!pictures.empty()) lists.push_back(pictures);
  std::vector<PictureSet> sets =
      encode_picture_lists(lists, checkpoint, options.run, progress, cancellation);
  auto next = sets.begin();
  const auto take_loras = [&](const std::vector<ListedLora>& listed) {
    std::vector<EncodedLora> group;
    for (const ListedLora& lora : listed)
      group.push_back({lora.weights, lora.sha256, std::move(*next++)});
    return group;
  };
  const auto take_joint = [&](const std::vector<std::vector<TrainingPicture>>& listed) {
    std::vector<std::optional<PictureSet>> joint;
    for (const std::vector<TrainingPicture>& pictures : listed)
      joint.push_back(pictures.empty() ? std::nullopt : std::optional(std::move(*next++)));
    return joint;
  };
  training_.subjects = take_loras(loras.subjects);
  training_.styles = take_loras(loras.styles);
  validation_.subjects = take_loras(loras.validation_subjects);
  validation_.styles = take_loras(loras.validation_styles);
  training_.joint = take_joint(loras.joint);
  validation_.joint = take_joint(loras.validation_joint);
  model_.load_unet();
  make_network(loras);
}

void HypernetTrainer::make_network(const HypernetLoras& loras) {
  const std::set<int64_t> widths = predictable_widths(options_.layout, loras);
  RandomSource random(stream_seed(options_.run.seed, RandomStream::kFactors, 0));
  NamedParameters parameters;
  for (const auto& [name, plan] :
       hypernet_tensors(options_.layout, {widths.begin(), widths.end()}, options_.num_hidden)) {
    const double bound = 1 / std::sqrt(static_cast<double>(plan.fan_in));
    Tensor values = random.uniform(plan.shape, -bound, bound);
    if (!plan.start.empty()) values = torch::tensor(plan.start, torch::kFloat).view(plan.shape);
    const bool learns = !(options_.constant && plan.reads_inputs);
    if (!learns) values.zero_();
    const Tensor leaf = values.to(options_.run.compute.device).requires_grad_(learns);
    tensors_[name] = leaf;
    if (learns) parameters.emplace_back(name, leaf);
  }
  optimizer_.emplace(parameters, AdamWSettings{.weight_decay = options_.weight_decay,
                                               .max_grad_norm = options_.max_grad_norm});
}

Tensor HypernetTrainer::joint_loss(PictureSet& pictures, int64_t pass, int64_t batch_size,
                                   RandomSource& random) {
  const std::vector<TrainingRow> rows = pictures.rows(pass, batch_size);
  const NoisyRows noisy = model_.draw(rows, /*flip=*/false, random);
  return model_.objective()
      .row_losses(model_.predict(noisy, rows), noisy.latents, noisy.noise, noisy.timesteps)
      .mean();
}

HypernetTrainer::Pass HypernetTrainer::run_pass(Pairs& pairs, size_t number, int64_t pass,
                                                int64_t batch_size, RandomSource& random,
                                                bool learns) {
  EncodedLora& subject = pairs.subjects[number / pairs.styles.size()];
  EncodedLora& style = pairs.styles[number % pairs.styles.size()];
  WeighedPair pair(model_.unet_layers(), subject.weights, style.weights);
  const Hypernetwork network = Hypernetwork::from_tensors(tensors_, options_.run.output);
  // The UNet's backward pass ends at copies of what was predicted: it may run in pieces, and what
  // they were predicted from is walked once.
  std::vector<Tensor> predicted, leaves, cosines;
  const auto cut = [&](const Tensor& prediction) {
    if (!prediction.defined()) return prediction;
    predicted.push_back(prediction);
    return leaves.emplace_back(prediction.detach().requires_grad_(learns));
  };
  for (const LayerName& name : pair.weighable()) {
    if (!network.covers(name, pair.weight_shape(name))) continue;
    const auto [coefficients, projection] =
        network.predict(name, pair.subject(name), pair.style(name));
    const Tensor m = cut(coefficients);
    cosines.push_back(torch::cosine_similarity(m[0], m[1], /*dim=*/0).abs());
    pair.weigh(name, m, cut(projection));
  }
  const ReconstructionLosses losses =
      reconstruction_losses(model_, pair, subject.pictures.rows(pass, batch_size),
                            style.pictures.rows(pass, batch_size), random);
  const Tensor similarity = torch::stack(cosines).sum();
  Tensor joint = torch::zeros_like(similarity);
  if (!pairs.joint.empty() && pairs.joint[number])
    joint = joint_loss(*pairs.joint[number], pass, batch_size, random);
  if (learns) {
    const Tensor loss = losses.subject + losses.style +
                        options_.run.similarity_weight * similarity + options_.joint_weight * joint;
    (loss / static_cast<double>(options_.pairs_per_step)).backward();
    std::vector<Tensor> gradients;
    for (const Tensor& leaf : leaves) gradients.push_back(leaf.grad());
    torch::autograd::backward(predicted, gradients);
  }
  return {losses.subject.detach(), losses.style.detach(), similarity.detach(), joint.detach()};
}

TrainingStep HypernetTrainer::advance() {
  const double lambda = options_.run.similarity_weight;
  TrainingStep step{.step = num_steps_done_ + 1, .learning_rate = options_.run.learning_rate};
  double subject = 0, style = 0, similarity = 0, joint = 0;
  optimizer_->zero_grad();
  for (int64_t k = 0; k < options_.pairs_per_step; ++k) {
    const int64_t pass = num_steps_done_ * options_.pairs_per_step + k;
    const auto pair = static_cast<size_t>(order_.batch(pass, 1).front());
    RandomSource random(stream_seed(options_.run.seed, RandomStream::kPass, pass));
    const Pass found =
        run_pass(training_, pair, pass, options_.run.batch_size, random, /*learns=*/true);
    const auto share = static_cast<double>(options_.pairs_per_step);
    subject += found.subject.item<double>() / share;
    style += found.style.item<double>() / share;
    similarity += found.similarity.item<double>() / share;
    joint += found.joint.item<double>() / share;
  }
  step.loss = subject + style + lambda * similarity + options_.joint_weight * joint;
  step.terms = {{"subject", subject}, {"style", style}, {"similarity", similarity}};
  if (!training_.joint.empty()) step.terms.emplace_back("joint", joint);
  step.grad_norm = optimizer_->update(step.step, step.loss, step.learning_rate);
  ++num_steps_done_;
  const bool last = num_steps_done_ == num_steps();
  if (options_.validates() &&
      (last || num_steps_done_ % options_.steps_between_validations() == 0)) {
    const double loss = validate();
    if (!std::isfinite(loss))
      throw PictureError(
          fmt::format("step {}: the loss of the validation is {}; a lower --learning-rate may help",
                      step.step, loss));
    step.terms.emplace_back("validation", loss);
    keep_if_best(loss);
  }
  return step;
}

double HypernetTrainer::validate() {
  const torch::NoGradGuard no_grad;
  double sum = 0;
  int64_t draw = 0;
  for (size_t pair = 0; pair < validation_.size(); ++pair)
    for (int64_t k = 0; k < kValidationDraws; ++k, ++draw) {
      RandomSource random(stream_seed(options_.run.seed, RandomStream::kValidation, draw));
      const Pass found =
          run_pass(validation_, pair, draw, kValidationRows, random, /*learns=*/false);
      sum += (found.subject + found.style + options_.joint_weight * found.joint).item<double>();
    }
  return sum / static_cast<double>(draw);
}

void HypernetTrainer::keep_if_best(double loss) {
  if (best_ && best_->loss <= loss) {
    ++best_->validations_since;
    return;
  }
  best_.emplace();
  best_->loss = loss;
  for (const auto& [name, tensor] : tensors_) best_->network[name] = tensor.detach().clone();
}

bool HypernetTrainer::finished() const {
  return num_steps_done_ >= num_steps() ||
         (options_.patience > 0 && best_ && best_->validations_since >= options_.patience);
}

StateDict HypernetTrainer::network() const {
  StateDict network;
  for (const auto& [name, tensor] : best_ ? best_->network : tensors_)
    network[name] = tensor.detach().to(torch::kCPU);
  return network;
}

StateDict HypernetTrainer::state() const {
  StateDict state = optimizer_->state();
  if (!best_) return state;
  for (const auto& [name, tensor] : best_->network) state[kBest + name] = tensor;
  state[kBestNumbers] =
      torch::tensor({best_->loss, static_cast<double>(best_->validations_since)}, torch::kDouble);
  return state;
}

void HypernetTrainer::restore(const StateDict& state, int64_t num_steps_done) {
  optimizer_->restore(state);
  num_steps_done_ = num_steps_done;
  if (!state.contains(kBestNumbers)) return;
  const Tensor numbers = state_tensor(state, kBestNumbers, torch::empty({2}));
  best_.emplace();
  best_->loss = numbers[0].item<double>();
  best_->validations_since = static_cast<int64_t>(numbers[1].item<double>());
  for (const auto& [name, tensor] : tensors_)
    best_->network[name] = torch::empty_like(tensor, torch::requires_grad(false))
                               .copy_(state_tensor(state, kBest + name, tensor));
}

}  // namespace molar
