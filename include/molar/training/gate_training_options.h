/// What `molar train gates` is asked to do, as a value.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "molar/training/picture_training_options.h"

namespace molar {

/// Which gates are learnt. Those that are not stay open, at 1: the paper's ablations.
enum class LearntGates { kBoth, kLocal, kGlobal };
/// "both", "local", "global". Throws ConfigError for anything else.
LearntGates parse_learnt_gates(const std::string& name);

struct GateTrainingOptions : PictureTrainingOptions {
  /// Whole scenes and close-ups, mixed; one prompt for those without a caption.
  std::vector<PictureSource> pictures;
  std::filesystem::path folder;  ///< of the experts; the gates are its gates.safetensors
  std::vector<std::string> experts = {"face", "hand"};  ///< in the order of Phi_1's rows

  LearntGates learnt = LearntGates::kBoth;

  /// Throws ConfigError that names the option, what was wanted and what was found.
  void validate() const;
  Json to_json() const;
};

}  // namespace molar
