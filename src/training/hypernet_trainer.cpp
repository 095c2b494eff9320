#include "hypernet_trainer.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <cmath>
#include <iterator>
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
  return captions;
}

/// Outputs of the layers that both LoRAs have and a head can be for. Throws FitError for none.
std::set<int64_t> predictable_widths(const LoraWeights& subject, const LoraWeights& style) {
  std::set<int64_t> widths;
  for (const auto& [name, layer] : subject.layers)
    if (is_predictable_layer(name) && layer.weight_shape.size() == 2 && style.layers.contains(name))
      widths.insert(layer.weight_shape.front());
  if (widths.empty())
    throw FitError(
        fmt::format("'{}' and '{}' have no UNet attention's to_q or to_out.0 in common: "
                    "there is nothing to predict",
                    subject.path.string(), style.path.string()));
  return widths;
}

/// Of all pairs that are learnt from. Pairs of the validation are checked as well.
std::set<int64_t> predictable_widths(const HypernetLoras& loras) {
  std::set<int64_t> widths;
  for (const ListedLora& subject : loras.subjects)
    for (const ListedLora& style : loras.styles)
      widths.merge(predictable_widths(subject.weights, style.weights));
  for (const ListedLora& subject : loras.validation_subjects)
    for (const ListedLora& style : loras.validation_styles)
      predictable_widths(subject.weights, style.weights);
  return widths;
}

}  // namespace

HypernetTrainer::HypernetTrainer(const HypernetOptions& options, const Checkpoint& checkpoint,
                                 const HypernetLoras& loras, ProgressSink& progress,
                                 const CancellationToken& cancellation)
    : options_(options),
      model_(checkpoint, training_model_options(options.run), all_captions(loras)),
      pairs_(options.run.seed, RandomStream::kPairs,
             static_cast<int64_t>(loras.subjects.size() * loras.styles.size())) {
  std::vector<ListedLora> all;
  for (const std::vector<ListedLora>* group : loras.groups())
    all.insert(all.end(), group->begin(), group->end());
  // At once: the VAE is loaded for it.
  std::vector<EncodedLora> encoded =
      encode_taught_loras(all, checkpoint, options.run, progress, cancellation);
  auto next = std::make_move_iterator(encoded.begin());
  const auto take = [&](std::vector<EncodedLora>& group, const std::vector<ListedLora>& listed) {
    const auto end = next + std::ssize(listed);
    group.assign(next, end);
    next = end;
  };
  take(subjects_, loras.subjects);
  take(styles_, loras.styles);
  take(validation_subjects_, loras.validation_subjects);
  take(validation_styles_, loras.validation_styles);
  model_.load_unet();
  make_network(loras);
}

void HypernetTrainer::make_network(const HypernetLoras& loras) {
  const std::set<int64_t> widths = predictable_widths(loras);
  std::map<std::string, std::pair<std::vector<int64_t>, int64_t>> shapes;  // and fan-in
  const int64_t hidden = options_.num_hidden;
  int64_t number = 1;
  for (const int64_t width : widths) {
    const std::string head = fmt::format("input_{}", number++);
    shapes[head + ".weight"] = {{hidden, 2 * width}, 2 * width};
    shapes[head + ".bias"] = {{hidden}, 2 * width};
  }
  shapes["output.1.weight"] = {{2, hidden}, hidden};
  shapes["output.1.bias"] = {{2}, hidden};

  RandomSource random(stream_seed(options_.run.seed, RandomStream::kFactors, 0));
  NamedParameters parameters;
  for (const auto& [name, shape] : shapes) {
    const double bound = 1 / std::sqrt(static_cast<double>(shape.second));
    Tensor values = random.uniform(shape.first, -bound, bound);
    if (name == "output.1.bias") values.fill_(1);
    const bool reads_columns = name.starts_with("input_") && name.ends_with(".weight");
    const bool learns = !(options_.constant && reads_columns);
    if (!learns) values.zero_();
    const Tensor leaf = values.to(options_.run.compute.device).requires_grad_(learns);
    tensors_[name] = leaf;
    if (learns) parameters.emplace_back(name, leaf);
  }
  optimizer_.emplace(parameters, AdamWSettings{.weight_decay = options_.weight_decay,
                                               .max_grad_norm = options_.max_grad_norm});
}

HypernetTrainer::Pass HypernetTrainer::run_pass(EncodedLora& subject, EncodedLora& style,
                                                int64_t pass, int64_t batch_size,
                                                RandomSource& random, bool learns) {
  WeighedPair pair(model_.unet_layers(), subject.weights, style.weights);
  const Hypernetwork network = Hypernetwork::from_tensors(tensors_, options_.run.output);
  // The UNet's backward pass ends at copies of the coefficients: it may run in pieces, and what
  // they were predicted from is walked once.
  std::vector<Tensor> predicted, leaves, cosines;
  for (const LayerName& name : pair.weighable()) {
    const LoraMatrices &s = pair.subject(name), &t = pair.style(name);
    if (!network.covers(name, {s.up.size(0), s.down.size(1)})) continue;
    predicted.push_back(network.coefficients(s, t));
    leaves.push_back(predicted.back().detach().requires_grad_(learns));
    const Tensor& m = leaves.back();
    cosines.push_back(torch::cosine_similarity(m[0], m[1], /*dim=*/0).abs());
    pair.weigh(name, m);
  }
  const ReconstructionLosses losses =
      reconstruction_losses(model_, pair, subject.pictures.rows(pass, batch_size),
                            style.pictures.rows(pass, batch_size), random);
  const Tensor similarity = torch::stack(cosines).sum();
  if (learns) {
    const Tensor loss = losses.subject + losses.style + options_.run.similarity_weight * similarity;
    (loss / static_cast<double>(options_.pairs_per_step)).backward();
    std::vector<Tensor> gradients;
    for (const Tensor& leaf : leaves) gradients.push_back(leaf.grad());
    torch::autograd::backward(predicted, gradients);
  }
  return {losses.subject.detach(), losses.style.detach(), similarity.detach()};
}

TrainingStep HypernetTrainer::advance() {
  const double lambda = options_.run.similarity_weight;
  TrainingStep step{.step = num_steps_done_ + 1, .learning_rate = options_.run.learning_rate};
  double subject = 0, style = 0, similarity = 0;
  optimizer_->zero_grad();
  for (int64_t k = 0; k < options_.pairs_per_step; ++k) {
    const int64_t pass = num_steps_done_ * options_.pairs_per_step + k;
    const auto pair = static_cast<size_t>(pairs_.batch(pass, 1).front());
    RandomSource random(stream_seed(options_.run.seed, RandomStream::kPass, pass));
    const Pass found = run_pass(subjects_[pair / styles_.size()], styles_[pair % styles_.size()],
                                pass, options_.run.batch_size, random, /*learns=*/true);
    const auto share = static_cast<double>(options_.pairs_per_step);
    subject += found.subject.item<double>() / share;
    style += found.style.item<double>() / share;
    similarity += found.similarity.item<double>() / share;
  }
  step.loss = subject + style + lambda * similarity;
  step.terms = {{"subject", subject}, {"style", style}, {"similarity", similarity}};
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
  for (EncodedLora& subject : validation_subjects_)
    for (EncodedLora& style : validation_styles_)
      for (int64_t k = 0; k < kValidationDraws; ++k, ++draw) {
        RandomSource random(stream_seed(options_.run.seed, RandomStream::kValidation, draw));
        const Pass found =
            run_pass(subject, style, draw, kValidationRows, random, /*learns=*/false);
        sum += (found.subject + found.style).item<double>();
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
