/// Whether the parts of a checkpoint are of one model: what each config says alone is checked where
/// it is read.
#pragma once

#include <vector>

#include "molar/models/clip_text_model.h"
#include "molar/models/unet_2d_condition.h"

namespace molar {

/// `encoders` in the order of the model's text encoders. Throws FileError where an encoder has
/// fewer positions than a prompt has tokens, or the UNet takes other widths than the encoders give.
void check_parts_fit(const UNet2DConditionConfig& unet,
                     const std::vector<CLIPTextConfig>& encoders);

}  // namespace molar
