/// request -> text conditioning -> denoising loop -> decode, for SD 1.x, 2.x and XL.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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

/// Receives picture number `index` of several requests, in any order.
using IndexedPictureSink = std::function<void(size_t index, Picture)>;

/// Memory for speed: what one picture has no use for, and many have.
struct PipelineOptions {
  bool keep_loaded = false;  ///< models stay in memory between calls, and say less
  int64_t cache_bytes = 0;   ///< of LoRA files, experts, merges and encoded prompts: each this much
};

/// A request that its model can draw.
struct CheckedRequest {
  GenerationRequest request;  ///< with every default resolved
  std::vector<LoraRecord> loras;
  std::vector<ExpertRecord> experts;
};

/// One opened model. Call order: open -> (plan | check | generate | generate_together)*.
class StableDiffusionPipeline {
 public:
  /// Opens the checkpoint and checks that its parts are there; weights are read when first needed.
  /// Throws FileError, ConfigError.
  static StableDiffusionPipeline open(const ModelRequest& request,
                                      const PipelineOptions& options = {});
  ~StableDiffusionPipeline();
  StableDiffusionPipeline(StableDiffusionPipeline&&) noexcept;
  StableDiffusionPipeline& operator=(StableDiffusionPipeline&&) noexcept;

  /// Checks `request` against the model without drawing or touching weights: sizes, sampler, LoRA
  /// fit, images. Returns the request with every default resolved. Throws what generate would.
  GenerationRequest plan(const GenerationRequest& request) const;
  /// Whether `request` draws with experts: its own, or those beside the model. Throws ConfigError
  /// where it says how they act and there are none.
  bool draws_with_experts(const GenerationRequest& request) const;

  /// As plan, but checks the merge without making it.
  CheckedRequest check(const GenerationRequest& request) const;

  /// Draws request.count pictures. Throws StoppedError at a safe point after a cancellation,
  /// FitError for a LoRA that does not fit, PictureError for NaN or a picture of one colour (not
  /// handed to the sink).
  void generate(const GenerationRequest& request, RunContext context, const PictureSink& sink);

  /// Draws one picture of each request, bit for bit what generate draws of it alone. Their
  /// adapters, experts, sizes, samplers and steps are equal (a group of plan_batch). They share
  /// calls of the UNet where that gives each the bits that it gets alone and is faster; both are
  /// measured with the first call. Throws as generate; what the sink got by then is whole.
  void generate_together(const std::vector<GenerationRequest>& requests, RunContext context,
                         const IndexedPictureSink& sink);

  /// SHA-256 over all files that the pictures depend on: weights, configs, tokenizers. Reads them.
  std::string model_sha256() const;

  std::string_view family() const;  ///< "SD 1.x", "SD 2.x", "SDXL"

 private:
  class Impl;
  explicit StableDiffusionPipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace molar
