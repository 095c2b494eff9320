#include "lora_assembly.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "molar/core/error.h"
#include "molar/core/finite.h"

namespace molar {
namespace {

using enum LoraPart;

/// The factors of one layer, looked up by part, with errors that name file and key.
class FactorReader {
 public:
  FactorReader(const LoraFactors& factors, const std::string& file)
      : factors_(factors), file_(file) {}

  bool has(LoraPart part) const { return factors_.contains(part); }
  Tensor optional(LoraPart part) const { return has(part) ? factors_.at(part).tensor : Tensor(); }
  /// `what`: the missing factor's name for the message.
  Tensor required(LoraPart part, std::string_view what) const {
    if (!has(part)) fail(fmt::format("its partner '{}' is missing", what));
    return factors_.at(part).tensor;
  }
  [[noreturn]] void fail(const std::string& reason) const {
    throw FileError(fmt::format("'{}' is broken: '{}': {}", file_, any_key(), reason));
  }

 private:
  /// A key for messages: a factor's where there is one, else the alpha's.
  const std::string& any_key() const {
    for (const auto& [part, factor] : factors_)
      if (part != kAlpha && part != kScale) return factor.key;
    return factors_.begin()->second.key;
  }
  const LoraFactors& factors_;
  const std::string& file_;
};

void check_numbers(const LoraFactor& factor, const std::string& file) {
  const Tensor& tensor = factor.tensor;
  if (!at::isFloatingType(tensor.scalar_type()))
    throw FileError(fmt::format("'{}': '{}' is {}, wanted float32, float16 or bfloat16", file,
                                factor.key, dtype_name(tensor.scalar_type())));
  if (tensor.dim() < 2 || tensor.dim() > 4 || tensor.dim() == 3 || tensor.numel() == 0)
    throw FileError(
        fmt::format("'{}': '{}' has shape {}, wanted a matrix or a convolution's kernel", file,
                    factor.key, shape_string(tensor.sizes())));
  if (!is_finite(tensor))
    throw FileError(fmt::format("'{}' is broken: '{}' holds NaN or infinity", file, factor.key));
}

double read_number(const LoraFactor& factor, const std::string& file) {
  if (factor.tensor.numel() != 1)
    throw FileError(fmt::format("'{}': '{}' has shape {}, wanted one number", file, factor.key,
                                shape_string(factor.tensor.sizes())));
  const double value = factor.tensor.to(at::kDouble).item<double>();
  if (!std::isfinite(value))
    throw FileError(fmt::format("'{}' is broken: '{}' is {}", file, factor.key, value));
  return value;
}

/// Sizes after the first two; 1, 1 for a matrix.
std::vector<int64_t> kernel_of(const Tensor& factor) {
  if (factor.dim() == 2) return {1, 1};
  return {factor.size(2), factor.size(3)};
}

/// [out, in] or [out, in, kh, kw], as the layer writes it.
std::vector<int64_t> change_shape(int64_t out, int64_t in, const std::vector<int64_t>& kernel,
                                  at::IntArrayRef weight_shape) {
  if (weight_shape.size() == 2 && kernel == std::vector<int64_t>{1, 1}) return {out, in};
  return {out, in, kernel[0], kernel[1]};
}

template <typename Factors>
AssembledLayer assembled(Factors factors, std::vector<int64_t> shape) {
  AssembledLayer result;
  result.layer.factors = std::move(factors);
  result.change_shape = std::move(shape);
  return result;
}

AssembledLayer assemble_low_rank(const FactorReader& read, at::IntArrayRef weight_shape) {
  const LowRankFactors f{.down = read.required(kDown, "down (lora_A)"),
                         .up = read.required(kUp, "up (lora_B)"),
                         .mid = read.optional(kMid)};
  const auto shapes = [&] {
    return fmt::format("down {}, up {}{}", shape_string(f.down.sizes()), shape_string(f.up.sizes()),
                       f.mid.defined() ? ", mid " + shape_string(f.mid.sizes()) : "");
  };
  const bool multiply = f.mid.defined() ? f.mid.dim() == 4 && f.mid.size(0) == f.up.size(1) &&
                                              f.mid.size(1) == f.down.size(0) &&
                                              kernel_of(f.down) == std::vector<int64_t>{1, 1}
                                        : f.up.size(1) == f.down.size(0);
  if (!multiply || kernel_of(f.up) != std::vector<int64_t>{1, 1})
    read.fail("the factors do not multiply: " + shapes());
  const Tensor& spatial = f.mid.defined() ? f.mid : f.down;
  return assembled(f, change_shape(f.up.size(0), f.down.size(1), kernel_of(spatial), weight_shape));
}

AssembledLayer assemble_hadamard(const FactorReader& read, at::IntArrayRef weight_shape) {
  const HadamardFactors f{.w1_a = read.required(kW1A, "hada_w1_a"),
                          .w1_b = read.required(kW1B, "hada_w1_b"),
                          .w2_a = read.required(kW2A, "hada_w2_a"),
                          .w2_b = read.required(kW2B, "hada_w2_b"),
                          .t1 = read.optional(kT1),
                          .t2 = read.optional(kT2)};
  if (f.t1.defined() != f.t2.defined())
    read.fail("hada_t1 and hada_t2 come together or not at all");
  const auto is_matrix = [](const Tensor& t) { return t.dim() == 2; };
  bool fits = is_matrix(f.w1_a) && is_matrix(f.w1_b) && is_matrix(f.w2_a) && is_matrix(f.w2_b) &&
              f.w1_a.sizes() == f.w2_a.sizes() && f.w1_b.sizes() == f.w2_b.sizes();
  if (!f.t1.defined()) {
    if (!fits || f.w1_a.size(1) != f.w1_b.size(0)) read.fail("the factors do not multiply");
    // The columns of a convolution stand in one row: in * kh * kw.
    const int64_t kernel_size =
        c10::multiply_integers(weight_shape.begin() + 2, weight_shape.end());
    const int64_t columns = f.w1_b.size(1);
    std::vector<int64_t> shape{f.w1_a.size(0), columns};
    if (weight_shape.size() == 4 && columns % kernel_size == 0)
      shape = {f.w1_a.size(0), columns / kernel_size, weight_shape[2], weight_shape[3]};
    return assembled(f, shape);
  }
  const int64_t r = f.w1_a.size(0);
  fits = fits && f.w1_b.size(0) == r && f.t1.dim() == 4 && f.t1.sizes() == f.t2.sizes() &&
         f.t1.size(0) == r && f.t1.size(1) == r;
  if (!fits) read.fail("the factors do not multiply");
  return assembled(f, change_shape(f.w1_a.size(1), f.w1_b.size(1), kernel_of(f.t1), weight_shape));
}

/// Shape of a Kronecker side before it is computed: [rows, columns].
std::array<int64_t, 2> product_shape(const FactorReader& read, const Tensor& a, const Tensor& b) {
  if (a.dim() != 2 || a.size(1) != b.size(0)) read.fail("the factors do not multiply");
  return {a.size(0), b.size(1)};
}

AssembledLayer assemble_kronecker(const FactorReader& read, at::IntArrayRef weight_shape) {
  KroneckerFactors f;
  std::array<int64_t, 2> first{}, second{};
  if (read.has(kW1)) {
    f.w1 = read.required(kW1, "lokr_w1");
    if (f.w1.dim() != 2) read.fail("lokr_w1 is no matrix");
    first = {f.w1.size(0), f.w1.size(1)};
  } else {
    f.w1_a = read.required(kW1A, "lokr_w1 or lokr_w1_a");
    f.w1_b = read.required(kW1B, "lokr_w1_b");
    if (f.w1_b.dim() != 2) read.fail("lokr_w1_b is no matrix");
    first = product_shape(read, f.w1_a, f.w1_b);
  }
  std::vector<int64_t> kernel{1, 1};
  if (read.has(kW2)) {
    f.w2 = read.required(kW2, "lokr_w2");
    second = {f.w2.size(0), f.w2.size(1)};
    kernel = kernel_of(f.w2);
  } else {
    f.w2_a = read.required(kW2A, "lokr_w2 or lokr_w2_a");
    f.w2_b = read.required(kW2B, "lokr_w2_b");
    f.t2 = read.optional(kT2);
    if (f.t2.defined()) {
      const bool fits = f.t2.dim() == 4 && f.w2_a.dim() == 2 && f.w2_b.dim() == 2 &&
                        f.w2_a.size(0) == f.t2.size(0) && f.w2_b.size(0) == f.t2.size(1);
      if (!fits) read.fail("the factors do not multiply");
      second = {f.w2_a.size(1), f.w2_b.size(1)};
      kernel = kernel_of(f.t2);
    } else {
      second = product_shape(read, f.w2_a, f.w2_b);
      kernel = kernel_of(f.w2_b);
      // LyCORIS flattens a convolution's kernel into w2_b's columns.
      if (weight_shape.size() == 4 && f.w2_b.dim() == 2) {
        const int64_t kernel_size = weight_shape[2] * weight_shape[3];
        if (second[1] % kernel_size == 0) {
          second[1] /= kernel_size;
          kernel = {weight_shape[2], weight_shape[3]};
        }
      }
    }
  }
  return assembled(f,
                   change_shape(first[0] * second[0], first[1] * second[1], kernel, weight_shape));
}

/// alpha / rank. kohya and LyCORIS: alpha 0 stands for the rank; two whole LoKr factors know no
/// alpha.
double scale_of_alpha(double alpha, const LoraLayer& layer) {
  const auto* const kronecker = std::get_if<KroneckerFactors>(&layer.factors);
  if (alpha == 0.0 || (kronecker && kronecker->whole())) return 1.0;
  return alpha / static_cast<double>(layer.rank());
}

}  // namespace

AssembledLayer assemble_lora_layer(const LoraFactors& factors, at::IntArrayRef weight_shape,
                                   const std::string& file) {
  const FactorReader read(factors, file);
  for (const auto& [part, factor] : factors)
    if (part != kAlpha && part != kScale) check_numbers(factor, file);
  const bool low_rank = read.has(kDown) || read.has(kUp) || read.has(kMid);
  const auto find_kind = [&](LoraKind kind) {
    return std::ranges::any_of(factors, [&](const auto& entry) {
      const auto key = split_lora_key(entry.second.key);
      return key && key->suffix->kind == kind;
    });
  };
  const bool hadamard = find_kind(LoraKind::kHadamard), kronecker = find_kind(LoraKind::kKronecker);
  if (low_rank + hadamard + kronecker == 0) read.fail("it has no factors beside it");
  if (low_rank + hadamard + kronecker > 1) read.fail("one layer has factors of two kinds");
  AssembledLayer result = low_rank   ? assemble_low_rank(read, weight_shape)
                          : hadamard ? assemble_hadamard(read, weight_shape)
                                     : assemble_kronecker(read, weight_shape);
  result.layer.weight_shape = weight_shape.vec();
  if (read.has(kScale)) {
    result.own_scale = read_number(factors.at(kScale), file);
  } else if (read.has(kAlpha)) {
    result.own_scale = scale_of_alpha(read_number(factors.at(kAlpha), file), result.layer);
  }
  return result;
}

}  // namespace molar
