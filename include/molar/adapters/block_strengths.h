/// How strongly a LoRA acts in each block of a model ("LoRA block weight").
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "molar/adapters/model_layers.h"

namespace molar {

/// One entry: "MID=0.5", or a number alone, which stands for the block of its place in the list.
struct BlockStrength {
  std::string block;  ///< empty: by its place
  double strength = 1.0;
  bool operator==(const BlockStrength&) const = default;
};
using BlockStrengths = std::vector<BlockStrength>;

/// "MID=0.5,OUT=0" or "1,0,0.5,...". Throws ConfigError: an entry without a number, names and bare
/// numbers in one list.
BlockStrengths parse_block_strengths(std::string_view text);
std::string block_strengths_text(const BlockStrengths& strengths);

/// The strength of every layer that an entry names; later entries win over earlier ones. Blocks are
/// called
///   BASE                    the text encoders
///   IN00 ..., MID, OUT00 ...  the UNet's input, middle and output blocks in the numbering of the
///                           original checkpoints; IN and OUT: all of them
///   any module's name       that module and all below it: "up_blocks.0.attentions.1"
/// Bare numbers stand for BASE, IN00 ..., MID, OUT00 ... in this order, or for those of them that
/// have attention (SD 1.5: 26 or 17, SDXL: 20 or 12).
/// Throws ConfigError for a block that the model lacks and for another count of numbers.
std::map<LayerName, double> layer_strengths(const BlockStrengths& strengths,
                                            const ModelLayers& layers);

}  // namespace molar
