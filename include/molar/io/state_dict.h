/// Named tensors, as a checkpoint file holds them.
#pragma once

#include <map>
#include <string>

#include "molar/core/tensor.h"

namespace molar {

/// Ordered by name. Tensors may share a mapped file's memory: treat them as read-only.
using StateDict = std::map<std::string, Tensor>;

}  // namespace molar
