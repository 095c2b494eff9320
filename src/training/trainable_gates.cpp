#include "trainable_gates.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <cmath>

#include "molar/core/random.h"
#include "molar/training/training_order.h"

namespace molar {
namespace {

/// torch.nn.Linear's own beginning: uniform in +-1/sqrt(fan_in), weight and bias.
LayerGates draw_gates(const Tensor& weight, int64_t num_experts, RandomSource& random) {
  const int64_t in = weight.size(1), out = weight.size(0);
  const auto leaf = [&](const std::vector<int64_t>& shape, int64_t fan_in) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
    return random.uniform(shape, -bound, bound).to(weight.device()).requires_grad_();
  };
  LayerGates gates;
  gates.local_weight = leaf({num_experts, in}, in);
  gates.local_bias = leaf({num_experts}, in);
  gates.global_weight = leaf({num_experts, out}, out);
  gates.global_bias = leaf({num_experts}, out);
  return gates;
}

constexpr double kOpen = 30.0;  // its sigmoid is 1 in float32
/// What is not learnt does not depend on its input.
void open_gates(const Tensor& weight, const Tensor& bias) {
  const torch::NoGradGuard no_grad;
  weight.zero_();
  bias.fill_(kOpen);
}

}  // namespace

TrainableGates::TrainableGates(const LayerIndex& unet, const std::vector<Expert>& experts,
                               LearntGates learnt, uint64_t seed)
    : learnt_(learnt),
      sums_(torch::zeros(
          {2, static_cast<int64_t>(experts.size())},
          torch::dtype(torch::kFloat32).device(unet.begin()->second->weight().device()))) {
  for (const Expert& expert : experts) names_.push_back(expert.name);
  RandomSource random(stream_seed(seed, RandomStream::kFactors, 0));
  for (const auto& [name, change] : experts.front().weights.layers) {
    AdaptableLayer* target = unet.at(name.module);
    const at::Device device = target->weight().device();
    std::vector<LoraMatrices> factors;
    for (const Expert& expert : experts) {
      LoraMatrices of_expert = expert.weights.layers.at(name).matrices();
      factors.push_back({of_expert.down.to(device), of_expert.up.to(device)});
    }
    const Layer& layer =
        layers_
            .emplace(name, Layer{target, stack_experts(factors),
                                 draw_gates(target->weight().flatten(1),
                                            static_cast<int64_t>(experts.size()), random)})
            .first->second;
    if (learnt == LearntGates::kGlobal)
      open_gates(layer.gates.local_weight, layer.gates.local_bias);
    if (learnt == LearntGates::kLocal)
      open_gates(layer.gates.global_weight, layer.gates.global_bias);
    target->set_residual(
        [this, &layer](const Tensor& x, const Tensor& y) { return forward(layer, x, y); });
  }
}

TrainableGates::~TrainableGates() {
  for (auto& [name, layer] : layers_) layer.target->set_residual({});
}

Tensor TrainableGates::forward(const Layer& layer, const Tensor& x, const Tensor& y) {
  const Tensor& weight = layer.target->weight();
  const std::vector<double> whole(names_.size(), 1.0);
  const ExpertLayer experts =
      ExpertLayer(layer.experts, gate_rows(layer.experts, layer.gates), whole)
          .to(weight.device(), weight.scalar_type());
  GateValues values;
  const Tensor result = experts.forward(*layer.target, x, y, {}, &values);
  sums_[0] += values.local.detach().mean(at::IntArrayRef({0, 1}));
  sums_[1] += values.global.detach().mean(0);
  ++num_calls_;
  return result;
}

NamedParameters TrainableGates::parameters() const {
  NamedParameters parameters;
  for (const auto& [name, layer] : layers_) {
    const auto add = [&](const char* gate, const Tensor& values) {
      parameters.emplace_back(fmt::format("{}/{}", name.module, gate), values);
    };
    if (learnt_ != LearntGates::kGlobal) {
      add("local_weight", layer.gates.local_weight);
      add("local_bias", layer.gates.local_bias);
    }
    if (learnt_ != LearntGates::kLocal) {
      add("global_weight", layer.gates.global_weight);
      add("global_bias", layer.gates.global_bias);
    }
  }
  return parameters;
}

ExpertGates TrainableGates::gates() const {
  ExpertGates gates{.path = {}, .experts = names_, .layers = {}};
  for (const auto& [name, layer] : layers_)
    gates.layers[name] = {layer.gates.local_weight.detach(), layer.gates.local_bias.detach(),
                          layer.gates.global_weight.detach(), layer.gates.global_bias.detach()};
  return gates;
}

std::vector<std::pair<std::string, double>> TrainableGates::take_statistics() {
  const Tensor means = sums_.cpu() / static_cast<double>(num_calls_);
  std::vector<std::pair<std::string, double>> statistics;
  for (size_t i = 0; i < names_.size(); ++i)
    for (const auto& [row, kind] : {std::pair{0, "local"}, {1, "global"}})
      statistics.emplace_back(fmt::format("{}_{}", kind, names_[i]),
                              means[row][static_cast<int64_t>(i)].item<double>());
  sums_.zero_();
  num_calls_ = 0;
  return statistics;
}

}  // namespace molar
