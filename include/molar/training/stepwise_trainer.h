/// What every training is to the loop that runs it: steps that can be taken, kept and gone on from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/progress.h"
#include "molar/io/state_dict.h"

namespace molar {

/// One update of what is learnt.
struct TrainingStep {
  int64_t step = 0;  ///< counted from 1
  double loss = 0;   ///< mean over the step's passes, before the update
  double learning_rate = 0;
  double grad_norm = 0;                               ///< before clipping
  std::vector<std::pair<std::string, double>> terms;  ///< what else this training measures
};

/// Call order: (restore)? -> (advance | state)*. The same options, pictures and model give the same
/// steps on every run, however often it was interrupted (Note [Order of randomness]).
class StepwiseTrainer {
 public:
  virtual ~StepwiseTrainer() = default;

  /// Throws PictureError where loss or gradient is not finite: nothing is changed then.
  virtual TrainingStep advance() = 0;
  virtual bool finished() const = 0;
  virtual int64_t num_steps() const = 0;  ///< at most
  virtual int64_t num_steps_done() const = 0;
  /// Everything that later steps depend on, for `restore` in a later run.
  virtual StateDict state() const = 0;
  /// Throws FileError where the state is another training's.
  virtual void restore(const StateDict& state, int64_t num_steps_done) = 0;
};

/// What a training came to.
struct TrainingResult {
  std::filesystem::path path;
  bool already_finished = false;  ///< an earlier run did everything; nothing was done now
  int64_t num_steps = 0;          ///< that were taken; fewer than asked for where it ended early
  int64_t num_layers = 0, num_parameters = 0;  ///< of what is learnt from pictures; 0: not counted
};

/// What a training tells while it runs. All must outlive the call.
struct TrainingContext {
  ProgressSink& progress;
  const CancellationToken& cancellation;
  std::function<void(const TrainingStep&)> on_step;
};

}  // namespace molar
