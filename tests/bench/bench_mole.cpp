// Seconds of one UNet call: base, experts in the fused form, experts one by one, in turn.
// bench_mole MODEL EXPERTS SIZE_PX THREADS ROUNDS; prints one JSON object. Run by
// scripts/bench_mole.
#include <torch/torch.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "molar/adapters/mole/routed_experts.h"
#include "molar/core/process.h"
#include "molar/io/checkpoint.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "support/literal_experts.h"

namespace molar {
namespace {

int bench(const std::vector<std::string>& arguments) {
  const std::filesystem::path model = arguments.at(1), folder = arguments.at(2);
  const int64_t size_px = std::stoll(arguments.at(3)), rounds = std::stoll(arguments.at(5));
  at::set_num_threads(std::stoi(arguments.at(4)));
  keep_freed_memory();  // as the program does
  const at::NoGradGuard no_grad;
  const Checkpoint checkpoint = open_checkpoint(model, {});
  UNet2DConditionModel unet =
      load_unet(checkpoint.component("unet"), {.device = at::kCPU, .dtype = at::kFloat});
  const ModelLayers layers{checkpoint.family, {{"unet", adaptable_layers(*unet)}}};
  const LayerIndex& index = layers.components.at("unet");
  const ExpertSet set = load_expert_set(folder, layers);

  torch::manual_seed(1);
  const Tensor sample = at::randn({2, 4, size_px / 8, size_px / 8});
  UNetConditioning conditioning;
  conditioning.encoder_hidden_states = at::randn({2, 77, unet->config().cross_attention_dim});
  Tensor result;
  const auto call = [&] {
    const auto start = std::chrono::steady_clock::now();
    result = unet->forward(sample, at::full({1}, 501.0), conditioning);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };

  std::optional<RoutedExperts> fused(std::in_place, index, set, RoutedExpertsOptions{});
  fused->act(false);
  const std::vector<std::pair<const char*, std::function<double()>>> forms = {
      {"base", call},
      {"fused",
       [&] {
         fused->act(true);
         const double seconds = call();
         fused->act(false);
         return seconds;
       }},
      {"literal",
       [&] {
         const test::LiteralExperts literal(index, set);
         return call();
       }},
  };
  std::map<std::string, std::vector<double>> times;
  std::map<std::string, Tensor> results;
  for (int64_t round = -1; round < rounds; ++round)  // the first fills caches and packs weights
    for (const auto& [name, form] : forms) {
      const double seconds = form();
      results[name] = result;
      if (round < 0) continue;
      times[name].push_back(seconds);
      std::cerr << "round " << round + 1 << ", " << name << ": " << seconds << " s\n";
    }
  Json report{{"seconds", times}, {"layers", fused->num_layers()}};
  report["difference"] = (results["fused"] - results["literal"]).abs().max().item<double>();
  report["change"] = (results["fused"] - results["base"]).abs().max().item<double>();
  std::cout << report.dump() << std::endl;
  return 0;
}

}  // namespace
}  // namespace molar

int main(int argc, char** argv) {
  if (argc != 6) {
    std::cerr << "bench_mole MODEL EXPERTS SIZE_PX THREADS ROUNDS\n";
    return 2;
  }
  return molar::bench({argv, argv + argc});
}
