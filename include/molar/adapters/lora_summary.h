/// What a LoRA file says about itself, without a model: for `inspect`, errors and records.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "molar/io/json_config.h"
#include "molar/io/safetensors.h"

namespace molar {

/// The words of people in a file's metadata (kohya's ss_*, modelspec.*); empty where absent.
struct LoraDocumentation {
  std::string title, base_model, trigger_words, licence, author, description;
  std::vector<std::pair<std::string, int64_t>> top_tags;  ///< at most 10, by frequency
};
LoraDocumentation read_lora_documentation(const std::map<std::string, std::string>& metadata);

/// The part of one component.
struct LoraComponentSummary {
  int64_t num_layers = 0;
  int64_t min_rank = 0, max_rank = 0;
  double min_alpha = 0, max_alpha = 0;  ///< equal to the rank where the file has none
};

struct LoraSummary {
  std::filesystem::path path;
  std::string kind;        ///< "LoRA", "LoCon" (with convolutions), "LoHa", "LoKr", "DoRA", ...
  std::string key_family;  ///< "kohya", "diffusers", "PEFT", ...
  std::string base_guess;  ///< "SD 1.x", "SD 2.x", "SDXL", "Flux", "SD 3", "unknown"
  std::string dtype;       ///< of the factors; several are joined by '+'
  std::map<std::string, LoraComponentSummary> components;
  int64_t num_keys = 0, num_parameters = 0;
  std::string unsupported;  ///< why molar cannot apply it; empty where it can
  LoraDocumentation documentation;
  std::map<std::string, std::string> metadata;

  /// {"kind": "LoRA", "key_family": ..., "components": {...}, ...}
  Json to_json() const;
  /// Lines of "name: value" for people.
  std::string to_text() const;
};

/// Whether any key of the file is a LoRA's (also of kinds that molar does not support).
bool is_lora(const SafetensorsFile& file);
/// Takes what load_lora takes. Throws FileError for what is no LoRA.
LoraSummary describe_lora(const std::filesystem::path& path);

}  // namespace molar
