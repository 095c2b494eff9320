/// How the columns of two LoRAs' changes are weighed, layer by layer, as a file: what
/// `molar train ziplora` learns and `--merge ziplora` applies.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "molar/adapters/lora.h"
#include "molar/adapters/lora_writer.h"
#include "molar/io/safetensors.h"

namespace molar {

struct MergeCoefficients {
  std::filesystem::path path;                ///< empty where it was not read
  std::map<LayerName, Tensor> layers;        ///< [2, in], float32: subject's, style's columns
  std::string subject_sha256, style_sha256;  ///< of the files that they were learnt for

  /// Throws FileError: missing, no file of coefficients, tensors of another shape or not finite.
  static MergeCoefficients load(const std::filesystem::path& path);
  /// "unet/<module>": [2, in], and metadata that says what it is and for which files.
  LoraFileContent content() const;
};

/// Whether the file says that it holds coefficients.
bool is_merge_coefficients(const SafetensorsFile& file);

}  // namespace molar
