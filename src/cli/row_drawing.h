/// Rows -> pictures in a folder: what batch and grid do alike.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "generate_options.h"
#include "molar/core/error.h"
#include "molar/pipeline/batch_run.h"
#include "prompt_rows.h"

namespace molar::cli {

using RowsFailedError = ErrorOf<ExitCode::kRowsFailed>;

/// How many at once, in which order, with how much memory.
struct DrawingOptions {
  std::optional<std::string> batch_size, order;
  std::optional<int64_t> cache_memory_mb;
};

/// Under the heading "Speed". `options` must outlive the parse.
void register_drawing_options(CLI::App& app, DrawingOptions& options);

/// One run over rows.
struct RowDrawing {
  std::string source;  ///< where the rows come from, for messages
  std::filesystem::path folder;
  BatchDrawOptions draw;
  PipelineOptions pipeline;
  bool refuse_existing = false;  ///< a picture that is there is an error
  ProgressStyle progress = ProgressStyle::kAuto;
  bool json = false;
};

/// Throws ConfigError where -o is missing or a file.
void require_output_folder(const GenerateOptions& defaults);

/// `defaults.output` is set. Throws ConfigError.
RowDrawing resolve_drawing(const GenerateOptions& defaults, const DrawingOptions& speed);

/// Rows that can be drawn. Throws where one cannot, after a line for each problem.
CheckedBatch check_rows(const PromptRows& rows, const RowDrawing& drawing,
                        const CancellationToken& cancellation);

/// What draw_rows would write and skip, on standard output.
void print_plan(const CheckedBatch& batch, const RowDrawing& drawing);

/// Draws what is missing, with a result on standard output for each row. Throws as draw_batch.
BatchSummary draw_rows(CheckedBatch& batch, const RowDrawing& drawing,
                       const CancellationToken& cancellation);

/// Throws where rows failed (exit code 8).
void require_all_drawn(const BatchSummary& summary, const RowDrawing& drawing);

}  // namespace molar::cli
