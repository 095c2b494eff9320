#include "gate_kernel.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace molar {
namespace {

constexpr int64_t kTokensOfATask = 1024;  // that a thread is worth being woken for

float sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

}  // namespace

bool gate_kernel_applies(const Tensor& logits) {
  const at::ScalarType type = logits.scalar_type();
  return logits.device().is_cpu() && !c10::GradMode::is_enabled() && logits.stride(-1) == 1 &&
         (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}

GatedTokens cpu_gates(const Tensor& logits, const Tensor& bias, const ExpertMask& mask) {
  const int64_t batch = logits.size(0), tokens = logits.size(1), count = logits.size(2) / 2;
  const auto exact = logits.options().dtype(at::kFloat);
  GatedTokens gated{.values = {.local = at::empty({batch, tokens, count}, exact),
                               .global = at::empty({batch, count}, exact)},
                    .weights = at::empty({batch, tokens, count}, logits.options())};
  const float* biases = bias.const_data_ptr<float>();
  const float* shares = mask.weights.defined() ? mask.weights.const_data_ptr<float>() : nullptr;
  float* local = gated.values.local.mutable_data_ptr<float>();
  float* global = gated.values.global.mutable_data_ptr<float>();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, logits.scalar_type(), "cpu_gates", [&, batch, tokens, count] {
        const scalar_t* values = logits.const_data_ptr<scalar_t>();
        scalar_t* weights = gated.weights.mutable_data_ptr<scalar_t>();
        const auto logit = [&](int64_t b, int64_t n, int64_t row) {
          return static_cast<float>(values[b * logits.stride(0) + n * logits.stride(1) + row]);
        };
        for (int64_t b = 0; b < batch; ++b)
          for (int64_t e = 0; e < count; ++e) {
            double sum = 0;
            for (int64_t n = 0; n < tokens; ++n) sum += logit(b, n, count + e);
            global[b * count + e] =
                sigmoid(static_cast<float>(sum / static_cast<double>(tokens)) + biases[count + e]);
          }
        at::parallel_for(0, batch * tokens, kTokensOfATask, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t b = i / tokens, n = i % tokens;
            for (int64_t e = 0; e < count; ++e) {
              const float gate = sigmoid(logit(b, n, e) + biases[e]);
              const float share = shares == nullptr ? 1.0F : shares[n * count + e];
              local[i * count + e] = gate;
              weights[i * count + e] = static_cast<scalar_t>(gate * global[b * count + e] * share);
            }
          }
        });
      });
  if (mask.active.defined()) gated.weights = gated.weights.index_select(1, mask.active);
  return gated;
}

}  // namespace molar
