/// Pictures that show what a training has learnt so far, drawn by the same code as `molar
/// generate`.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/run_record.h"
#include "picture_training_flags.h"

namespace molar::cli {

inline constexpr int64_t kSampleSteps = 20;

/// Writes what was learnt under a name that starts with `stem` and adds it to the request.
using AttachSample =
    std::function<void(const std::filesystem::path& stem, GenerationRequest& request)>;

class SampleDrawer {
 public:
  /// `place`: "face" for face-step000100.png and so on, in its folder. `prompt`: what to draw where
  /// the flags name nothing. Throws ConfigError for flags that do nothing or are out of range.
  SampleDrawer(const PictureTrainingFlags& flags, const PictureTrainingOptions& options,
               std::filesystem::path place, const std::optional<std::string>& prompt);

  /// Without those beside the model.
  void without_experts() { request_.mole.off = true; }
  /// What was learnt stays beside its pictures: an earlier step may turn out to be the best, and
  /// the records name it. The pipeline has a model of its own in memory meanwhile. A picture that
  /// comes to nothing is a warning.
  void draw(int64_t step, const CancellationToken& cancellation, const AttachSample& attach);

 private:
  std::filesystem::path place_;
  ModelRequest model_;
  std::vector<std::string> prompts_;
  GenerationRequest request_;
};

}  // namespace molar::cli
