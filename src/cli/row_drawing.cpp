#include "row_drawing.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

#include "molar/core/atomic_file.h"
#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "option_binder.h"
#include "progress_display.h"
#include "result_stream.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxProblems = 20;
constexpr int64_t kDefaultCache_mb = 1024, kMaxCache_mb = 1 << 24;
constexpr int64_t kDefaultBatch = 8, kMaxBatch = 1024;

/// Several lines, the last of them the error itself.
[[noreturn]] void refuse(const std::string& source, int64_t num_rows,
                         const std::vector<ListProblem>& all) {
  std::vector<ListProblem> problems;  // cells of a grid share their values, and what is wrong
  for (const ListProblem& problem : all)
    if (std::ranges::find(problems, problem.message, &ListProblem::message) == problems.end())
      problems.push_back(problem);
  const ExitCode first = problems.front().exit_code;
  const bool alike = std::ranges::all_of(
      problems, [&](const ListProblem& problem) { return problem.exit_code == first; });
  if (problems.size() == 1) throw Error(problems.front().message, first);
  for (size_t i = 0; i < std::min(problems.size(), kMaxProblems); ++i)
    spdlog::error("{}", Error(problems[i].message).what());
  if (problems.size() > kMaxProblems)
    spdlog::error("... and {} more", problems.size() - kMaxProblems);
  throw Error(
      fmt::format("{}: {} problems, {} rows; nothing was drawn", source, problems.size(), num_rows),
      alike ? first : ExitCode::kInput);
}

/// "auto", or the most pictures of one call.
void take_batch_size(const std::optional<std::string>& text, BatchDrawOptions& options) {
  options.max_batch = kDefaultBatch;
  if (!text || *text == "auto") return;
  options.limit_memory = false;
  options.max_batch = parse_value<int64_t>("--batch-size", *text);
  if (options.max_batch < 1 || options.max_batch > kMaxBatch)
    throw ConfigError(fmt::format("--batch-size {}: wanted auto, or 1 to {}", *text, kMaxBatch));
}

BatchOrder batch_order(const std::optional<std::string>& text) {
  if (!text || *text == "shared") return BatchOrder::kShared;
  if (*text == "list") return BatchOrder::kList;
  throw ConfigError(fmt::format("--order '{}': wanted shared, list{}", *text,
                                suggestion(*text, {"shared", "list"})));
}

int64_t cache_bytes(const std::optional<int64_t>& megabytes) {
  const int64_t value = megabytes.value_or(kDefaultCache_mb);
  if (value < 0 || value > kMaxCache_mb)
    throw ConfigError(fmt::format("--cache-memory {}: wanted 0 to {} MB", value, kMaxCache_mb));
  return value << 20;
}

Json pictures_json(const fs::path& folder, const std::vector<RowPicture>& pictures) {
  Json json = Json::array();
  for (const RowPicture& picture : pictures)
    json.push_back({{"path", (folder / picture.file).string()}, {"seed", picture.seed}});
  return json;
}

void print_row(const RowReport& report, const fs::path& folder, bool json) {
  if (!json) {
    for (const RowPicture& picture : report.result.pictures)
      write_result_line((folder / picture.file).string());
    return;
  }
  Json line = report.result.to_json();
  line["skipped"] = report.skipped;
  if (report.result.done()) {
    line["pictures"] = pictures_json(folder, report.result.pictures);
    for (size_t i = 0; i < report.timings.size() && i < line["pictures"].size(); ++i)
      line["pictures"][i].update(report.timings[i]);
  }
  write_result_json(line);
}

std::vector<std::string> picture_files(const CheckedBatch& batch, const Shard& shard) {
  std::vector<std::string> files;
  for (const CheckedRow& row : batch.rows)
    if (shard.has(row.number))
      for (const RowPicture& picture : row.pictures) files.push_back(picture.file);
  return files;
}

void refuse_existing(const std::vector<std::string>& files, const fs::path& folder) {
  for (const std::string& file : files)
    if (is_taken(folder / file))
      throw ConfigError(
          fmt::format("'{}' exists; choose another -o, or --on-exist skip or overwrite",
                      (folder / file).string()));
}

}  // namespace

void register_drawing_options(CLI::App& app, DrawingOptions& o) {
  OptionBinder speed(app, "Speed");
  speed.value("--batch-size", o.batch_size, "auto|N",
              "Pictures in one call of the UNet, at most; never where that changes a bit (auto)");
  speed.value("--order", o.order, "shared|list",
              "shared: rows of the same LoRAs, sizes and texts follow each other (shared)");
  speed.value("--cache-memory", o.cache_memory_mb, "MB",
              "Kept of LoRA files, experts, merges and encoded prompts: each this much (1024)");
}

void require_output_folder(const GenerateOptions& defaults) {
  if (!defaults.output) throw ConfigError("no folder for the pictures; wanted -o DIR");
  if (fs::exists(*defaults.output) && !fs::is_directory(*defaults.output))
    throw ConfigError(
        fmt::format("-o '{}' is a file; wanted a folder for the pictures", *defaults.output));
}

RowDrawing resolve_drawing(const GenerateOptions& defaults, const DrawingOptions& speed) {
  const OnExist on_exist = defaults.on_exist.value_or(OnExist::kSkip);
  if (on_exist == OnExist::kNumber)
    throw ConfigError(
        "--on-exist number: a batch names pictures by row and content; wanted skip, overwrite or "
        "error");
  RowDrawing drawing{
      .folder = defaults.output.value(),
      .draw = {.order = batch_order(speed.order),
               .redraw = on_exist == OnExist::kOverwrite,
               .metadata = !defaults.no_metadata},
      .pipeline = {.keep_loaded = true, .cache_bytes = cache_bytes(speed.cache_memory_mb)},
      .refuse_existing = on_exist == OnExist::kError,
      .progress = defaults.machine.progress_style(defaults.run.quiet),
      .json = defaults.run.json};
  take_batch_size(speed.batch_size, drawing.draw);
  return drawing;
}

CheckedBatch check_rows(const PromptRows& rows, const RowDrawing& drawing,
                        const CancellationToken& cancellation) {
  if (!rows.problems().empty()) refuse(drawing.source, rows.num_rows(), rows.problems());
  spdlog::info("checking {} rows of {}", rows.rows().size(), drawing.source);
  CheckedBatch batch = check_batch(rows.rows(), drawing.pipeline, cancellation);
  std::vector<ListProblem> problems;
  for (const auto& [row, failure] : batch.problems) problems.push_back(rows.describe(row, failure));
  if (!problems.empty()) refuse(drawing.source, rows.num_rows(), problems);
  return batch;
}

void print_plan(const CheckedBatch& batch, const RowDrawing& drawing) {
  for (const CheckedRow& row : batch.rows) {
    if (!drawing.draw.shard.has(row.number)) continue;
    if (drawing.json) {
      Json line = {{"schema", 1},
                   {"dry_run", true},
                   {"row", row.number},
                   {"key", row.key},
                   {"request", row.request.to_json()},
                   {"pictures", pictures_json(drawing.folder, row.pictures)}};
      for (size_t i = 0; i < row.pictures.size(); ++i)
        line["pictures"][i]["skipped"] = is_taken(drawing.folder / row.pictures[i].file);
      write_result_json(line);
      continue;
    }
    for (const RowPicture& picture : row.pictures) {
      const fs::path path = drawing.folder / picture.file;
      write_result_line(fmt::format("{}: {}", is_taken(path) ? "skip" : "write", path.string()));
    }
  }
}

BatchSummary draw_rows(CheckedBatch& batch, const RowDrawing& drawing,
                       const CancellationToken& cancellation) {
  const std::vector<std::string> files = picture_files(batch, drawing.draw.shard);
  if (drawing.refuse_existing) refuse_existing(files, drawing.folder);
  BatchFolder results(drawing.folder, drawing.draw.shard, std::ssize(batch.rows), files);
  const std::unique_ptr<ProgressSink> progress = make_progress_display(drawing.progress);
  const BatchSummary summary =
      draw_batch(batch, results, drawing.draw, {*progress, cancellation},
                 [&](const RowReport& report) { print_row(report, drawing.folder, drawing.json); });
  std::vector<std::pair<int64_t, std::string>> keys;
  for (const CheckedRow& row : batch.rows) keys.emplace_back(row.number, row.key);
  results.finish(keys);
  spdlog::info("{} rows drawn, {} there already, {} failed", summary.num_drawn, summary.num_skipped,
               summary.num_failed);
  return summary;
}

void require_all_drawn(const BatchSummary& summary, const RowDrawing& drawing) {
  if (summary.num_failed == 0) return;
  throw RowsFailedError(
      fmt::format("{} of {} rows failed, see '{}'; the same command draws them again",
                  summary.num_failed, summary.num_drawn + summary.num_skipped + summary.num_failed,
                  (drawing.folder / results_name(drawing.draw.shard)).string()));
}

}  // namespace molar::cli
