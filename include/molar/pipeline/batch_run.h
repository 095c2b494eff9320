/// Many rows, models loaded once: rows -> checked rows with keys -> pictures and results in a
/// folder.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "molar/core/failure.h"
#include "molar/pipeline/batch_folder.h"
#include "molar/pipeline/batch_plan.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/stable_diffusion_pipeline.h"

namespace molar {

/// One row as it was asked for.
struct BatchRow {
  int64_t number = 0;  ///< from 1
  std::string place;   ///< "prompts.csv:3:1", for messages
  ModelRequest model;
  GenerationRequest request;
  bool has_seed = false;  ///< else it gets one that its content decides
};

/// A row that its model can draw.
struct CheckedRow {
  int64_t number = 0;
  std::string place;
  size_t model = 0;           ///< index into CheckedBatch::models
  GenerationRequest request;  ///< with every default resolved
  std::vector<LoraRecord> loras;
  std::vector<ExpertRecord> experts;
  std::map<std::string, std::string> other_files;  ///< that the request names: path -> SHA-256
  /// First 12 hex digits of the SHA-256 of the request with every file replaced by its content's
  /// hash, the model's files and its number type. Where the files lie does not count.
  std::string key;
  std::vector<RowPicture> pictures;
};

struct RowProblem {
  int64_t row = 0;
  Failure failure;
};

/// All rows, checked before the first picture.
struct CheckedBatch {
  std::vector<StableDiffusionPipeline> models;  ///< opened; weights are read when first needed
  std::vector<CheckedRow> rows;
  std::vector<RowProblem> problems;  ///< of rows that are not among `rows`
};

/// Opens every model once and checks each row against its own: sizes, sampler, files, fit of LoRAs
/// and experts.
/// Throws StoppedError; what is wrong with single rows, their models included, is a problem.
CheckedBatch check_batch(const std::vector<BatchRow>& rows, const PipelineOptions& options,
                         const CancellationToken& cancellation);

/// What became of a row.
struct RowReport {
  const RowResult& result;
  bool skipped = false;       ///< it was there already
  std::vector<Json> timings;  ///< RunTimings of each picture that was drawn now
};

struct BatchDrawOptions {
  Shard shard;
  BatchOrder order = BatchOrder::kShared;
  int64_t max_batch = 8;     ///< pictures in one call of the UNet, at most
  bool limit_memory = true;  ///< fewer of them, the larger they are
  bool redraw = false;       ///< pictures that are there are replaced
  bool metadata = true;
  bool fail_fast = false;  ///< the first row that fails is the last
};

struct BatchSummary {
  int64_t num_drawn = 0, num_skipped = 0, num_failed = 0;  ///< rows
};

/// Draws what is missing of `batch`'s shard. A row that fails is recorded and the rest goes on;
/// what cannot be written ends the run. `report` is called once a row, as soon as it is on the
/// disk. Throws StoppedError at a safe point, FileError for the folder; what was done by then
/// stays.
BatchSummary draw_batch(CheckedBatch& batch, BatchFolder& folder, const BatchDrawOptions& options,
                        RunContext context, const std::function<void(const RowReport&)>& report);

}  // namespace molar
