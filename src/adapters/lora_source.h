/// Where a LoRA's tensors and its alphas come from: one file, or the files of a folder.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "molar/io/json_config.h"
#include "molar/io/safetensors.h"

namespace molar {

/// The scale of layers whose file has no alpha of their own: peft's LoraConfig, as
/// adapter_config.json or diffusers' `lora_adapter_metadata` hold it.
class PeftScaling {
 public:
  /// Throws FileError for values of the wrong type, for DoRA, for initialisations that change the
  /// base weights, and for patterns that are more than module names.
  PeftScaling(const Json& config, const std::string& source);
  /// alpha / rank, or alpha / sqrt(rank) with rsLoRA. `module`: dotted diffusers name; `rank`: of
  /// its factors, nullopt where they do not show it (LoKr with whole factors): then it is the
  /// config's.
  double scale(const std::string& module, std::optional<int64_t> rank) const;

 private:
  std::optional<double> alpha_;  // absent: the rank, so that the scale is 1
  std::map<std::string, double> alpha_pattern_;
  std::optional<double> rank_;
  std::map<std::string, double> rank_pattern_;
  bool rank_stabilised_ = false;
};

/// One safetensors file of a LoRA.
struct LoraSource {
  SafetensorsFile file;
  std::string component_hint;  ///< where the folder or its config says so; else empty
  std::map<std::string, PeftScaling> scalings;  ///< by component; "" stands for all
};

/// Takes what load_lora takes (see there). Throws FileError: nothing there, a pickle, a broken
/// file.
std::vector<LoraSource> open_lora_sources(const std::filesystem::path& path);

/// The scale that the source's configs give, or 1.
double configured_scale(const LoraSource& source, const std::string& component,
                        const std::string& module, std::optional<int64_t> rank);

/// Throws FileError unless some key of the sources is a LoRA's; says what the file is instead.
void require_lora_keys(const std::vector<LoraSource>& sources);

}  // namespace molar
