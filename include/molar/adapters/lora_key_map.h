/// Every spelling of LoRA keys that molar reads, as tables: a new training tool is a new row.
///
/// A key is prefix + module + suffix. The suffix says which factor it is, the prefix which
/// component; the module is looked up in a dictionary made from the model, because '_' for '.'
/// cannot be undone by text alone.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "molar/adapters/model_layers.h"

namespace molar {

/// What a tensor is to its layer; names as in LoraLayer's factors.
enum class LoraPart {
  kDown,
  kUp,
  kMid,
  kAlpha,  ///< scale = alpha / rank
  kScale,  ///< the scale itself
  kW1,
  kW1A,
  kW1B,
  kW2,
  kW2A,
  kW2B,
  kT1,
  kT2,
  kUnsupported,
};

/// The formula that a suffix belongs to; kAny: to all, or to none that molar knows.
enum class LoraKind { kAny, kLowRank, kHadamard, kKronecker };

struct LoraSuffix {
  std::string_view text;  ///< '*' stands for a name without dots
  LoraPart part;
  LoraKind kind = LoraKind::kAny;
  std::string_view dialect = "";      ///< what the suffix adds to the family's name
  std::string_view unsupported = "";  ///< kUnsupported: the kind, as its users call it
};

struct LoraPrefix {
  std::string_view text;
  std::string_view
      component;  ///< empty: any, tried in the order unet, text_encoder, text_encoder_2
  std::string_view family;
};

std::span<const LoraSuffix> lora_suffixes();
std::span<const LoraPrefix> lora_prefixes();

/// A key taken apart without a model.
struct LoraKey {
  std::string_view module;   ///< everything before the suffix
  const LoraSuffix* suffix;  ///< a row of lora_suffixes()
};
/// nullopt where the key ends in none of the suffixes: no LoRA key.
std::optional<LoraKey> split_lora_key(std::string_view key);

/// '.' -> '_', after what older diffusers put between module and factor (".processor") is dropped.
std::string flatten_module_name(std::string_view module);

/// The name of a UNet module in the original single-file layout (`input_blocks.4.1...`); nullopt
/// where it has none. `unet` is the whole index: block sizes are counted in it.
std::optional<std::string> ldm_module_name(const std::string& module, const LayerIndex& unet);

/// The dictionary: flattened spelling -> layer, for one model.
class LoraModuleMap {
 public:
  struct Hit {
    LayerName name;
    std::string family;  ///< of the spelling that matched, "kohya (LDM block names)"
  };

  explicit LoraModuleMap(const ModelLayers& layers);
  /// `component_hint` (may be empty) restricts prefixes that stand for any component.
  std::optional<Hit> find(const LoraKey& key, std::string_view component_hint = "") const;

 private:
  struct Entry {
    std::string module;
    bool is_ldm;
  };
  std::unordered_map<std::string, std::unordered_map<std::string, Entry>> components_;
};

}  // namespace molar
