/// What the columns of two LoRAs' changes of a layer look like, in numbers that mean the same for a
/// layer of any size: what a hypernetwork reads that is to serve SD 1.5, 2.1 and XL alike.
#pragma once

#include <string>
#include <vector>

#include "molar/adapters/lora.h"

namespace molar {

/// In the order of the rows of column_features.
const std::vector<std::string>& column_feature_names();

/// [F, in], float32, from the factors alone. S and T are the subject's and the style's change, j a
/// column, logarithms natural and kept within [-4, 4]:
///   log |S_j| / rms_j |S_j|, log |T_j| / rms_j |T_j|, cos(S_j, T_j);
///   shares of S_j in T's column space and of T_j in S's, each in [0, 1];
///   log of the leverage of j in T's row space and in S's, relative to their means;
/// the same for all columns of a layer:
///   log |S| / |T|, cos(S, T), the overlaps of their row spaces and of their column spaces in [0,
///   1]; 0 or 1 for the kind of layer (attention's eight, feed-forward's two, the transformer's two
///   projections, the two convolutions of a residual block, other) and for its place (down, middle,
///   up).
/// `module`: the layer's dotted name in the UNet.
Tensor column_features(const std::string& module, const LoraMatrices& subject,
                       const LoraMatrices& style);

}  // namespace molar
