#include "molar/core/vector_math.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

namespace molar {

void resolve_vector_math() {
  static const bool resolved = [] {
    const c10::InferenceMode no_gradients;
    using Function = at::Tensor (*)(const at::Tensor&);
    for (const Function function :
         {&at::acos, &at::asin, &at::atan, &at::cos, &at::erf, &at::erfc, &at::erfinv, &at::exp,
          &at::log, &at::log10, &at::log2, &at::sin, &at::sqrt, &at::tan, &at::tanh, &at::trunc})
      for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) function(at::ones({1}, dtype));
    return true;
  }();
  static_cast<void>(resolved);
}

}  // namespace molar
