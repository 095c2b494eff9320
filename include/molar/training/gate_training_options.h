/// What `molar train gates` is asked to do, as a value.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "molar/training/picture_training_options.h"

namespace molar {

struct GateTrainingOptions : PictureTrainingOptions {
  /// Whole scenes and close-ups, mixed; one prompt for those without a caption.
  std::vector<PictureSource> pictures;
  std::filesystem::path folder;  ///< of the experts; the gates are its gates.safetensors
  std::vector<std::string> experts = {"face", "hand"};  ///< in the order of Phi_1's rows

  /// Throws ConfigError that names the option, what was wanted and what was found.
  void validate() const;
  Json to_json() const;
};

}  // namespace molar
