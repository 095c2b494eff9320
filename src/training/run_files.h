/// The files of one training: its result, and its checkpoint until that is written. See Note
/// [Resuming] in picture_training.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "molar/adapters/lora_writer.h"
#include "molar/io/json_config.h"
#include "molar/io/state_dict.h"

namespace molar {

/// Where a training was when it was interrupted.
struct UnfinishedRun {
  StateDict state;
  int64_t num_steps_done = 0;
};

class RunFiles {
 public:
  /// `description`: see describe_run. Throws ConfigError where `output` exists and belongs to
  /// another run. `start_anew`: what an earlier run left does not count; its result stays until the
  /// new one replaces it.
  RunFiles(const std::filesystem::path& output, Json description, bool start_anew);

  bool finished() const;
  /// How many steps a finished run took. Throws FileError where its result does not say.
  int64_t num_steps_taken() const;
  /// Throws ConfigError for a checkpoint of another run, FileError for a broken one.
  std::optional<UnfinishedRun> unfinished() const;
  void write_checkpoint(const UnfinishedRun& run) const;
  /// Last, so that a run killed between the two files finds its result and is finished.
  void write_result(LoraFileContent content, int64_t num_steps) const;
  void remove_checkpoint() const;

 private:
  std::filesystem::path output_, checkpoint_;
  Json description_;
  bool start_anew_;
};

}  // namespace molar
