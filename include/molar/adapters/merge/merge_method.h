/// Merge methods: several LoRAs with roles -> one. A new method is one file beside direct_merge.cpp
/// and one row of the table in merge_method.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "molar/adapters/lora.h"

namespace molar {

/// What a LoRA stands for. Methods that know no roles treat all alike.
enum class LoraRole { kSubject, kStyle, kOther };
std::string_view role_name(LoraRole role);  ///< "subject", "style", "lora"

/// One file of the merge. `strength` multiplies its final part; what a method measures or predicts,
/// it takes from the unscaled file.
struct MergeInput {
  LoraRole role = LoraRole::kOther;
  LoraWeights weights;
  double strength = 1.0;
};

/// A method's row.
struct MergeMethod {
  std::string_view name;
  std::string_view summary;  ///< one line for help and errors
  LoraWeights (*merge)(const std::vector<MergeInput>& inputs);
};

/// All methods, in the order of the help text.
const std::vector<MergeMethod>& merge_methods();
/// "auto" and the names of merge_methods().
std::vector<std::string> merge_method_names();
/// The name of the method that `name` stands for: "auto" is resolved. Throws ConfigError for an
/// unknown name and lists the known ones.
std::string resolve_merge_method(const std::string& name);

/// Merges under the method called `name`. The result's layers are those that any input covers;
/// factors are shared with the inputs where the method allows. Throws ConfigError for an unknown
/// name, Error for inputs whose layers differ in shape, or for no input.
LoraWeights merge_loras(const std::string& name, const std::vector<MergeInput>& inputs);

}  // namespace molar
