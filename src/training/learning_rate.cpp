#include "molar/training/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace molar {

double learning_rate_at(const PictureTrainingOptions& options, int64_t step) {
  const auto now = static_cast<double>(step), warmup = static_cast<double>(options.warmup_steps);
  if (now < warmup) return options.learning_rate * now / warmup;
  if (options.schedule == LearningRateSchedule::kConstant) return options.learning_rate;
  const double progress = (now - warmup) / (static_cast<double>(options.num_steps) - warmup);
  return options.learning_rate * std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

}  // namespace molar
