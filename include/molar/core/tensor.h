/// The tensor type below models/, and the shape check of public functions.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace molar {

using Tensor = at::Tensor;

/// Throws Error unless `tensor` has the `wanted` shape; -1 stands for any size.
/// `what` names the tensor in the message.
void check_shape(const Tensor& tensor, std::initializer_list<int64_t> wanted,
                 std::string_view what);

/// "[1, 4, 64, 64]".
std::string shape_string(at::IntArrayRef shape);

/// "float32", "bfloat16", ...: the names PyTorch users know.
std::string dtype_name(at::ScalarType dtype);

}  // namespace molar
