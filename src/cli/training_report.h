/// How trainings tell what they did, on standard output.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "molar/training/stepwise_trainer.h"

namespace molar::cli {

/// --json: {"schema": 1, "step": 1, "loss": ..., "learning_rate": ..., "grad_norm": ..., and the
/// step's terms under their names}
void report_step(const TrainingStep& step);

/// The path, or with `json` one object.
void report_outcome(const TrainingResult& result, bool json,
                    const std::vector<std::string>& warnings);

}  // namespace molar::cli
