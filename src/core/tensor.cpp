#include "molar/core/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "molar/core/error.h"

namespace molar {

void check_shape(const Tensor& tensor, std::initializer_list<int64_t> wanted,
                 std::string_view what) {
  const at::IntArrayRef found = tensor.sizes();
  bool equal = found.size() == wanted.size();
  size_t axis = 0;
  for (const int64_t size : wanted) {
    if (!equal) break;
    equal = size == -1 || size == found[axis];
    ++axis;
  }
  if (!equal)
    throw Error(fmt::format("{}: wanted shape {}, found {}", what,
                            shape_string(at::IntArrayRef(wanted.begin(), wanted.size())),
                            shape_string(found)));
}

std::string shape_string(at::IntArrayRef shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kDouble:
      return "float64";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kLong:
      return "int64";
    case at::kInt:
      return "int32";
    case at::kShort:
      return "int16";
    case at::kChar:
      return "int8";
    case at::kByte:
      return "uint8";
    case at::kBool:
      return "bool";
    default:
      return c10::toString(dtype);
  }
}

}  // namespace molar
