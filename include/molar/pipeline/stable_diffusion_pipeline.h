/// request -> text conditioning -> denoising loop -> decode, for SD 1.x, 2.x and XL.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "molar/core/cancellation.h"
#include "molar/core/progress.h"
#include "molar/core/tensor.h"
#include "molar/pipeline/gate_trace.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/run_record.h"

namespace molar {

/// One finished picture.
struct Picture {
  Tensor pixels;     ///< uint8 [H, W, 3]
  RunRecord record;  ///< its seed, sizes, LoRAs, versions
  RunTimings timings;
  std::optional<GateTrace> gates;  ///< where the context asked for it and experts acted
};

/// Called once per picture, in order, as soon as it is drawn.
using PictureSink = std::function<void(Picture)>;

/// What a run may look at while it draws. The references must outlive the call.
struct RunContext {
  ProgressSink& progress;
  const CancellationToken& cancellation;
  bool record_gates = false;  ///< pictures carry what the experts' gates did
};

/// One opened model. Call order: open -> (plan | generate)*.
class StableDiffusionPipeline {
 public:
  /// Opens the checkpoint and checks that its parts are there; weights are read when first needed.
  /// Throws FileError, ConfigError.
  static StableDiffusionPipeline open(const ModelRequest& request);
  ~StableDiffusionPipeline();
  StableDiffusionPipeline(StableDiffusionPipeline&&) noexcept;
  StableDiffusionPipeline& operator=(StableDiffusionPipeline&&) noexcept;

  /// Checks `request` against the model without drawing or touching weights: sizes, sampler, LoRA
  /// fit, images. Returns the request with every default resolved. Throws what generate would.
  GenerationRequest plan(const GenerationRequest& request) const;
  /// Whether `request` draws with experts: its own, or those beside the model. Throws ConfigError
  /// where it says how they act and there are none.
  bool draws_with_experts(const GenerationRequest& request) const;

  /// Draws request.count pictures. Throws StoppedError at a safe point after a cancellation,
  /// FitError for a LoRA that does not fit, PictureError for NaN or a picture of one colour (not
  /// handed to the sink).
  void generate(const GenerationRequest& request, RunContext context, const PictureSink& sink);

  std::string_view family() const;  ///< "SD 1.x", "SD 2.x", "SDXL"

 private:
  class Impl;
  explicit StableDiffusionPipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace molar
