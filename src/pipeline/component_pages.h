/// Gives a component's memory back once its module is gone.
#pragma once

#include "molar/io/checkpoint.h"
#include "molar/io/safetensors.h"

namespace molar {

/// Weights that were used in place stay resident as pages of the mapped file until somebody says
/// that they are not needed; reading them again loads them from the file.
inline void release_pages(const Component& component) {
  for (const auto& [name, tensor] : component.weights) release_mapped_pages(tensor);
}

}  // namespace molar
