#include "molar/core/finite.h"

#include <ATen/ATen.h>

namespace molar {
namespace {

/// Whether any number has every bit of `exponent`: NaN or infinity.
template <typename Bits>
bool has_exponent(const void* data, int64_t count, Bits exponent) {
  constexpr int64_t kBlock = 1024;  // a fixed count of iterations is what compilers vectorise
  const auto* bits = static_cast<const Bits*>(data);
  Bits found = 0;
  for (; count >= kBlock && found == 0; count -= kBlock, bits += kBlock)
    for (int64_t i = 0; i < kBlock; ++i) found |= (bits[i] & exponent) == exponent;
  for (int64_t i = 0; i < count; ++i) found |= (bits[i] & exponent) == exponent;
  return found != 0;
}

}  // namespace

bool is_finite(const Tensor& tensor) {
  if (tensor.device().is_cpu() && tensor.is_contiguous()) {
    const void* const data = tensor.const_data_ptr();
    switch (tensor.scalar_type()) {
      case at::kFloat:
        return !has_exponent<uint32_t>(data, tensor.numel(), 0x7F800000);
      case at::kHalf:
        return !has_exponent<uint16_t>(data, tensor.numel(), 0x7C00);
      case at::kBFloat16:
        return !has_exponent<uint16_t>(data, tensor.numel(), 0x7F80);
      default:
        break;
    }
  }
  return tensor.isfinite().all().item<bool>();
}

}  // namespace molar
