/// What merging is trained for: on the pictures of each LoRA, both together are to predict what
/// that one predicts alone (ZipLoRA, arXiv:2311.13600; LoRA.rar, arXiv:2412.05148).
#pragma once

#include <vector>

#include "training_model.h"
#include "weighed_pair.h"

namespace molar {

/// Mean squared differences of the merged prediction from that of one LoRA, on its own rows.
struct ReconstructionLosses {
  Tensor subject, style;  ///< scalars
};

/// |eps_merged(x_s, p_s) - eps_subject(x_s, p_s)|^2 and |eps_merged(x_t, p_t) - eps_style(x_t,
/// p_t)|^2. Gradients flow to the pair's coefficients. The noise is drawn as draw_noisy_rows has
/// it, for the subject's rows and then the style's at once; it is the same for both predictions.
ReconstructionLosses reconstruction_losses(TrainingModel& model, WeighedPair& pair,
                                           const std::vector<TrainingRow>& subject_rows,
                                           const std::vector<TrainingRow>& style_rows,
                                           RandomSource& random);

}  // namespace molar
