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

/// What a training came to.
struct TrainingOutcome {
  std::filesystem::path path;
  bool already_finished = false;
  int64_t num_steps = 0;
};

/// The path, or with `json` one object.
void report_outcome(const TrainingOutcome& outcome, bool json,
                    const std::vector<std::string>& warnings);

}  // namespace molar::cli
