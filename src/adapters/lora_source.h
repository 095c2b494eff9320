/// Where a LoRA's tensors and its alphas come from: one file, or the files of a folder.
#pragma once

#include <filesystem>
#include <functional>
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
  /// The keys of the config's object of this name, as the file orders them.
  using KeyOrder = std::function<std::vector<std::string>(const std::string& name)>;

  /// Throws FileError for values of the wrong type, for methods other than LoRA, LoHa and LoKr, for
  /// settings that molar does not know (DoRA, ...), for initialisations that change the base
  /// weights, and for patterns that are more than module names.
  PeftScaling(const Json& config, const KeyOrder& key_order, const std::string& source);
  /// alpha / rank, or alpha / sqrt(rank) with rsLoRA. `module`: dotted diffusers name; `rank`: of
  /// its factors, nullopt where they do not show it (LoKr with whole factors): then it is the
  /// config's.
  double scale(const std::string& module, std::optional<int64_t> rank) const;

 private:
  /// A module's name or the end of one, from a dot on, and the value of the modules that it fits.
  struct Pattern {
    std::string name;
    bool whole;  // the name, not an end
    double value;
  };
  using Patterns = std::vector<Pattern>;  // the first that fits counts

  static Patterns read_patterns(const JsonConfig& config, const char* key,
                                const KeyOrder& key_order);
  static std::optional<double> value_for(const std::string& module, const Patterns& patterns,
                                         std::optional<double> otherwise);

  std::optional<double> alpha_;  // absent: the rank, so that the scale is 1
  Patterns alpha_pattern_;
  std::optional<double> rank_;
  Patterns rank_pattern_;
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
