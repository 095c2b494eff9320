#include "named_adamw.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "molar/core/error.h"
#include "molar/core/tensor.h"

namespace molar {
namespace {

constexpr const char *kParameter = "parameter/", *kMean = "exp_avg/", *kSquare = "exp_avg_sq/",
                     *kCount = "num_updates/";

}  // namespace

NamedAdamW::NamedAdamW(const NamedParameters& parameters, const AdamWSettings& settings)
    : settings_(settings) {
  for (const auto& [name, values] : parameters) {
    const Tensor like = values.detach();
    learnt_.push_back({name, values, torch::zeros_like(like), torch::zeros_like(like),
                       torch::zeros({}, like.options().dtype(torch::kFloat))});
  }
}

void NamedAdamW::zero_grad() {
  for (const Learnt& learnt : learnt_) learnt.values.mutable_grad().reset();
}

double NamedAdamW::update(int64_t step, double loss, double learning_rate) {
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> values, grads, means, squares, counts;
  for (const Learnt& learnt : learnt_) {
    if (!learnt.values.grad().defined()) continue;  // the loss does not reach it
    values.push_back(learnt.values);
    grads.push_back(learnt.values.grad());
    means.push_back(learnt.exp_avg);
    squares.push_back(learnt.exp_avg_sq);
    counts.push_back(learnt.num_updates);
  }
  const double limit = settings_.max_grad_norm > 0 ? settings_.max_grad_norm
                                                   : std::numeric_limits<double>::infinity();
  const double norm = torch::nn::utils::clip_grad_norm_(values, limit);
  if (!std::isfinite(loss) || !std::isfinite(norm))
    throw PictureError(fmt::format(
        "step {}: the loss is {} and its gradient {}; a lower --learning-rate or --dtype f32 may "
        "help",
        step, loss, norm));
  if (values.empty()) return norm;
  torch::_foreach_add_(counts, 1);
  torch::_fused_adamw_(values, grads, means, squares, /*max_exp_avg_sqs=*/{}, counts, learning_rate,
                       settings_.beta1, settings_.beta2, settings_.weight_decay, settings_.epsilon,
                       /*amsgrad=*/false, /*maximize=*/false);
  return norm;
}

StateDict NamedAdamW::state() const {
  StateDict state;
  for (const auto& [name, values, mean, square, count] : learnt_) {
    state[kParameter + name] = values.detach();
    state[kMean + name] = mean;
    state[kSquare + name] = square;
    state[kCount + name] = count;
  }
  return state;
}

void NamedAdamW::restore(const StateDict& state) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, values, mean, square, count] : learnt_) {
    values.copy_(state_tensor(state, kParameter + name, values));
    mean.copy_(state_tensor(state, kMean + name, values));
    square.copy_(state_tensor(state, kSquare + name, values));
    count.copy_(state_tensor(state, kCount + name, count));
  }
}

const Tensor& state_tensor(const StateDict& state, const std::string& key, const Tensor& like) {
  const auto found = state.find(key);
  if (found == state.end() || found->second.sizes() != like.sizes())
    throw FileError(
        fmt::format("the checkpoint's '{}' is missing or not {}", key, shape_string(like.sizes())));
  return found->second;
}

}  // namespace molar
