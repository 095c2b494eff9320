/// Merge methods: several LoRAs with roles -> one. A new method is one file beside direct_merge.cpp
/// and one row of the table in merge_method.cpp.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "molar/adapters/hypernetwork.h"
#include "molar/adapters/lora.h"
#include "molar/adapters/merge/merge_coefficients.h"

namespace molar {

/// What a LoRA stands for. Methods that know no roles treat all alike.
enum class LoraRole { kSubject, kStyle, kOther };
std::string_view role_name(LoraRole role);  ///< "subject", "style", "lora"

/// One file of the merge. Strengths multiply its final part; what a method measures or predicts,
/// it takes from the unscaled file.
struct MergeInput {
  LoraRole role = LoraRole::kOther;
  LoraWeights weights;
  double strength = 1.0;
  std::map<LayerName, double> layer_strengths = {};  ///< times these; absent: 1
  std::string sha256 = {};  ///< sha256_safetensors_data of the file, where it is known already

  double strength_of(const LayerName& name) const;
};

/// What a method may be told; each reads what concerns it.
struct MergeOptions {
  const Hypernetwork* hypernetwork = nullptr;       ///< lorarar needs one
  const MergeCoefficients* coefficients = nullptr;  ///< ziplora needs them
  std::optional<KeyValueMode> key_value;            ///< lorarar; unset: what the hypernetwork says
  double density = 0.5;                             ///< ties, dare: share of values that is kept
  uint64_t seed = 0;                                ///< dare
  double projection = 0.5;                          ///< np: mu
  /// The result's highest rank; unset: svd the inputs' highest, others whatever is exact.
  std::optional<int64_t> rank;
  at::ScalarType factors_dtype = at::kFloat;  ///< of factors that the merge computes
};

/// How one layer of the result came about.
struct LayerMerge {
  /// "sum", "mean", "predicted", "projected", ...; "subject", "style" or "lora": only that input
  /// has the layer.
  std::string rule;
  Tensor coefficients;  ///< [2, in]: of the subject's and the style's columns; undefined where none
  Tensor
      projection;  ///< scalar: how far the subject leaves the style's rows; undefined: not at all
};

/// A layer's change from some moment of the sampling on.
struct LayerSwitch {
  double at = 0;   ///< share of the sampling steps that are done by then, in (0, 1)
  LoraLayer then;  ///< replaces the layer of MergedLora::weights
};

struct MergedLora {
  LoraWeights weights;
  std::map<LayerName, LayerMerge> layers;
  std::map<LayerName, LayerSwitch> switches;  ///< klora only

  /// "predicted 24, sum 12": how many layers each rule made.
  std::string summary() const;
};

/// What beside the LoRAs there is to merge with.
struct MergeAids {
  bool hypernetwork = false, coefficients = false;
};

/// A method's row.
struct MergeMethod {
  std::string_view name;
  std::string_view summary;  ///< one line for help and errors
  bool needs_roles;          ///< exactly one subject and one style; else any number of files
  bool MergeAids::* aid;     ///< what it cannot do without; null: nothing
  bool fits_a_file;          ///< one LoRA file can hold the result: nothing switches
  /// What only this method asks of inputs; null: nothing.
  void (*check)(const std::vector<MergeInput>& inputs, const MergeOptions& options);
  MergedLora (*merge)(const std::vector<MergeInput>& inputs, const MergeOptions& options);
};

/// All methods, in the order of the help text.
const std::vector<MergeMethod>& merge_methods();
/// "auto" and the names of merge_methods().
std::vector<std::string> merge_method_names();
/// The name of the method that `name` stands for. "auto" is lorarar with a hypernetwork and np
/// without. Throws ConfigError for an unknown name and lists the known ones, and for a method whose
/// aid is missing.
std::string resolve_merge_method(const std::string& name, const MergeAids& aids);
/// Throws ConfigError for a method whose result no file can hold.
void require_file_method(const std::string& name);

/// Throws what merge_loras would, without its work.
void check_merge(const std::string& name, const std::vector<MergeInput>& inputs,
                 const MergeOptions& options = {});

/// Merges under the method called `name`. The result's layers are those that any input covers;
/// factors are shared with the inputs where the method allows. Throws ConfigError for an unknown
/// name, for roles that the method needs and the inputs lack, for options out of range; FitError
/// where no layer has the width of a hypernetwork's head; Error for inputs whose layers differ in
/// shape, or for no input.
MergedLora merge_loras(const std::string& name, const std::vector<MergeInput>& inputs,
                       const MergeOptions& options = {});

}  // namespace molar
