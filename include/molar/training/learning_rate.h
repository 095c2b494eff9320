/// The learning rate over the steps, as diffusers' get_scheduler("constant_with_warmup" |
/// "cosine").
#pragma once

#include "molar/training/picture_training_options.h"

namespace molar {

/// Of the update number `step`, counted from 0. With a warm-up the first rate is 0, as there.
double learning_rate_at(const PictureTrainingOptions& options, int64_t step);

}  // namespace molar
