#include "molar/adapters/block_strengths.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "molar/adapters/lora_key_map.h"
#include "molar/core/error.h"

namespace molar {
namespace {

constexpr std::string_view kText = "BASE", kIn = "IN", kMiddle = "MID", kOut = "OUT";

std::optional<double> read_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

/// "input_blocks.4.1.proj_in" -> "IN04"; empty for what stands in no block.
std::string block_of_ldm_name(std::string_view name) {
  if (name.starts_with("middle_block.")) return std::string(kMiddle);
  for (const auto& [start, letters] :
       {std::pair{std::string_view("input_blocks."), kIn}, {"output_blocks.", kOut}}) {
    if (!name.starts_with(start)) continue;
    int number = 0;
    std::from_chars(name.data() + start.size(), name.data() + name.size(), number);
    return fmt::format("{}{:02}", letters, number);
  }
  return "";
}

/// A model's blocks: which layers each has.
class BlockIndex {
 public:
  explicit BlockIndex(const ModelLayers& layers) : layers_(layers) {
    for (const auto& [component, index] : layers.components)
      for (const auto& [module, layer] : index) {
        const std::string block =
            component == "unet" ? unet_block(module, index) : std::string(kText);
        if (block.empty()) continue;
        blocks_[block].push_back({component, module});
        if (component != "unet" || module.find(".attentions.") != std::string::npos)
          with_attention_.insert(block);
      }
  }

  /// BASE, IN00 ..., MID, OUT00 ...: std::map's order, but for MID before OUT, which it is.
  std::vector<std::string> names(bool only_with_attention) const {
    std::vector<std::string> names;
    for (const auto& [block, members] : blocks_)
      if (!only_with_attention || with_attention_.contains(block)) names.push_back(block);
    return names;
  }

  /// Throws ConfigError for an unknown block.
  std::vector<LayerName> members(const std::string& block) const {
    std::vector<LayerName> found;
    const bool is_side = block == kIn || block == kOut;
    for (const auto& [name, members] : blocks_)
      if (name == block || (is_side && name.starts_with(block)))
        found.insert(found.end(), members.begin(), members.end());
    for (const auto& [component, index] : layers_.components)
      for (const auto& [module, layer] : index)
        if (module == block || module.starts_with(block + "."))
          found.push_back({component, module});
    if (found.empty())
      throw ConfigError(
          fmt::format("block '{}': this model has {}, {}, {}, and modules such as "
                      "mid_block or up_blocks.0.attentions.1",
                      block, fmt::join(names(false), ", "), kIn, kOut));
    return found;
  }

 private:
  static std::string unet_block(const std::string& module, const LayerIndex& unet) {
    const std::optional<std::string> name = ldm_module_name(module, unet);
    return name ? block_of_ldm_name(*name) : "";
  }

  const ModelLayers& layers_;
  std::map<std::string, std::vector<LayerName>> blocks_;
  std::set<std::string> with_attention_;
};

/// Bare numbers get the names of their places.
BlockStrengths named(const BlockStrengths& strengths, const BlockIndex& blocks) {
  if (strengths.empty() || !strengths.front().block.empty()) return strengths;
  for (const bool only_with_attention : {false, true}) {
    const std::vector<std::string> names = blocks.names(only_with_attention);
    if (names.size() != strengths.size()) continue;
    BlockStrengths found = strengths;
    for (size_t i = 0; i < names.size(); ++i) found[i].block = names[i];
    return found;
  }
  throw ConfigError(fmt::format("{} strengths of blocks: wanted {} for {}, or {} for {}",
                                strengths.size(), blocks.names(false).size(),
                                fmt::join(blocks.names(false), ", "), blocks.names(true).size(),
                                fmt::join(blocks.names(true), ", ")));
}

}  // namespace

BlockStrengths parse_block_strengths(std::string_view text) {
  BlockStrengths strengths;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    const std::string_view entry = text.substr(start, end - start);
    const size_t equals = entry.rfind('=');
    const bool has_name = equals != std::string_view::npos;
    const auto strength = read_number(has_name ? entry.substr(equals + 1) : entry);
    if (!strength || equals == 0)
      throw ConfigError(
          fmt::format("strength of a block '{}': wanted BLOCK=NUMBER, such as "
                      "MID=0.5, or numbers for all blocks",
                      entry));
    strengths.push_back({std::string(has_name ? entry.substr(0, equals) : ""), *strength});
    if (strengths.front().block.empty() != strengths.back().block.empty())
      throw ConfigError(fmt::format(
          "strengths of blocks '{}': wanted a name for each, or numbers alone for all blocks",
          text));
    start = end + 1;
  }
  return strengths;
}

std::string block_strengths_text(const BlockStrengths& strengths) {
  std::vector<std::string> entries;
  for (const auto& [block, strength] : strengths)
    entries.push_back(block.empty() ? fmt::format("{}", strength)
                                    : fmt::format("{}={}", block, strength));
  return fmt::format("{}", fmt::join(entries, ","));
}

std::map<LayerName, double> layer_strengths(const BlockStrengths& strengths,
                                            const ModelLayers& layers) {
  if (strengths.empty()) return {};
  const BlockIndex blocks(layers);
  std::map<LayerName, double> found;
  for (const auto& [block, strength] : named(strengths, blocks))
    for (const LayerName& name : blocks.members(block)) found[name] = strength;
  return found;
}

}  // namespace molar
