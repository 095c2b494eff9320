/// What a merge did and how much its inputs were in each other's way, for people and programs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "molar/adapters/merge/merge_method.h"
#include "molar/io/json_config.h"

namespace molar {

/// One layer of the result.
struct LayerReport {
  LayerName name;
  std::string rule;           ///< as LayerMerge
  std::vector<double> norms;  ///< |delta W_i| (Frobenius) per input, without strengths; 0: absent
  /// cos(delta W_i, delta W_j) for i < j in the order (0, 1), (0, 2), ..., (1, 2), ...; NaN where
  /// one of the two is absent or zero.
  std::vector<double> cosines;
  /// Mean of the predicted coefficients, subject and style; empty where nothing was predicted.
  std::vector<double> mean_coefficients;
  std::optional<double> projection;  ///< as LayerMerge
};

/// From the factors alone (Gram matrices), layer by layer in the order of names.
std::vector<LayerReport> report_merge(const std::vector<MergeInput>& inputs,
                                      const MergedLora& merged);

/// {"schema": 1, "method": ..., "inputs": [...], "layers": [{...}]}; NaN as null.
Json merge_report_json(const std::string& method, const std::vector<MergeInput>& inputs,
                       const std::vector<LayerReport>& layers);

/// A chart over the layers: the first two inputs' cosine, and the mean coefficients where there are
/// some. Stands alone, UTF-8.
std::string merge_report_svg(const std::string& method, const std::vector<MergeInput>& inputs,
                             const std::vector<LayerReport>& layers);

}  // namespace molar
