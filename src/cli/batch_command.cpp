#include "batch_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>
#include <iterator>

#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "molar/io/file.h"
#include "option_binder.h"
#include "progress_display.h"
#include "prompt_rows.h"
#include "result_stream.h"
#include "signals.h"
#include "text.h"
#include "warnings.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxListBytes = 1 << 28;
constexpr size_t kMaxProblems = 20;
constexpr int64_t kDefaultCache_mb = 1024, kMaxCache_mb = 1 << 24;
constexpr int64_t kDefaultBatch = 8, kMaxBatch = 1024;

using RowsFailedError = ErrorOf<ExitCode::kRowsFailed>;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string read_list(const std::string& file) {
  if (file != "-") return read_file(file, kMaxListBytes);
  std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  if (text.size() > kMaxListBytes)
    throw InputError(
        fmt::format("standard input has {} bytes, more than the {} that a list may have",
                    text.size(), kMaxListBytes));
  return text;
}

/// Several lines, the last of them the error itself.
[[noreturn]] void refuse(const std::string& source, size_t num_rows,
                         const std::vector<ListProblem>& problems) {
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

/// Options of generate that a batch has no use for.
void refuse_unfit(const BatchCommandOptions& options) {
  if (options.files.size() != 1)
    throw ConfigError(options.files.empty()
                          ? "no list; wanted 'molar batch FILE -o DIR', '-' for standard input"
                          : fmt::format("one list at a time, found '{}' and '{}'", options.files[0],
                                        options.files[1]));
  if (!options.defaults.output) throw ConfigError("no folder for the pictures; wanted -o DIR");
  if (fs::exists(*options.defaults.output) && !fs::is_directory(*options.defaults.output))
    throw ConfigError(fmt::format("-o '{}' is a file; wanted a folder for the pictures",
                                  *options.defaults.output));
  if (options.defaults.on_exist == OnExist::kNumber)
    throw ConfigError(
        "--on-exist number: a batch names pictures by row and content; wanted skip, overwrite or "
        "error");
}

void print_status(const fs::path& folder, bool json) {
  const BatchStatus status = read_batch_status(folder);
  Json failed = Json::array();
  for (const RowResult& result : status.failed) failed.push_back(result.to_json());
  if (json) {
    write_result_line(dump({{"schema", 1},
                            {"rows", status.num_rows},
                            {"done", status.num_done},
                            {"failed", failed},
                            {"missing", status.missing}}));
  } else {
    std::string text = fmt::format("{} rows: {} done, {} failed, {} missing\n", status.num_rows,
                                   status.num_done, status.failed.size(), status.missing.size());
    for (const RowResult& result : status.failed)
      text += fmt::format("row {} failed: {}\n", result.row, result.error);
    write_result(printable(text));
  }
  if (!status.failed.empty())
    throw RowsFailedError(fmt::format("{} of {} rows failed; the same command draws them again",
                                      status.failed.size(), status.num_rows));
  if (!status.missing.empty())
    throw StoppedError(fmt::format("{} of {} rows are missing; the same command draws them",
                                   status.missing.size(), status.num_rows));
}

Json pictures_json(const fs::path& folder, const std::vector<RowPicture>& pictures) {
  Json json = Json::array();
  for (const RowPicture& picture : pictures)
    json.push_back({{"path", (folder / picture.file).string()}, {"seed", picture.seed}});
  return json;
}

void print_plan(const CheckedBatch& batch, const Shard& shard, const fs::path& folder, bool json) {
  for (const CheckedRow& row : batch.rows) {
    if (!shard.has(row.number)) continue;
    if (json) {
      Json line = {{"schema", 1},
                   {"dry_run", true},
                   {"row", row.number},
                   {"key", row.key},
                   {"request", row.request.to_json()},
                   {"pictures", pictures_json(folder, row.pictures)}};
      for (size_t i = 0; i < row.pictures.size(); ++i)
        line["pictures"][i]["skipped"] = is_taken(folder / row.pictures[i].file);
      write_result_line(dump(line));
      continue;
    }
    for (const RowPicture& picture : row.pictures) {
      const fs::path path = folder / picture.file;
      write_result_line(fmt::format("{}: {}", is_taken(path) ? "skip" : "write", path.string()));
    }
  }
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
  write_result_line(dump(line));
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

CLI::App* register_batch(CLI::App& program, BatchCommandOptions& o) {
  CLI::App* app =
      program.add_subcommand("batch", "Draw a list of rows, continued where it was stopped");
  app->add_option(
         "FILE", o.files,
         "CSV whose columns are the options of a picture, JSON lines, or text with a prompt "
         "a line (--n --w --h --d --s --l); '-' reads standard input")
      ->group("Rows")
      ->configurable(false);
  OptionBinder rows(*app, "Rows");
  rows.value("--format", o.format, "csv|jsonl|txt", "How the list is read (by its name)");
  rows.list("--ignore-column", o.ignored_columns, "NAME",
            "A column that may be there and says nothing; repeatable");
  rows.value("--shard", o.shard, "I/N", "Only the rows whose number leaves I when divided by N");
  rows.flag("--fail-fast", o.fail_fast, "Stop at the first row that fails");

  OptionBinder speed(*app, "Speed");
  speed.value("--batch-size", o.batch_size, "auto|N",
              "Pictures in one call of the UNet, at most; never where that changes a bit (auto)");
  speed.value("--order", o.order, "shared|list",
              "shared: rows of the same LoRAs, sizes and texts follow each other (shared)");
  speed.value("--cache-memory", o.cache_memory_mb, "MB",
              "Kept of LoRA files, experts, merges and encoded prompts: each this much (1024)");

  register_picture_options(*app, o.defaults);
  OptionBinder output(*app, "Output");
  output.value("-o,--output", o.defaults.output, "DIR",
               "Folder for the pictures and results.jsonl");
  output.value("--on-exist", o.defaults.on_exist, "skip|overwrite|error",
               "What to do with pictures that are there (skip)");
  output.flag("--no-metadata", o.defaults.no_metadata, "Write no record into the pictures");
  output.flag("--dry-run", o.defaults.dry_run, "Check every row and print the plan");
  output
      .value("--status", o.status, "DIR",
             "How far the batch in DIR is; exit 8: rows failed, 75: some are missing")
      ->configurable(false);
  register_machine_options(*app, o.defaults.machine);
  register_run_options(*app, o.defaults.run);
  return app;
}

CommandHelp batch_help() {
  return {
      .usage = "FILE -o DIR [options of generate for rows that do not say]",
      .examples = {"molar batch prompts.csv -o out/ --style ink.safetensors --steps 20",
                   "molar batch prompts.csv -o out/ --shard 0/4   (and 1/4, 2/4, 3/4 elsewhere)"},
      .common_options = {"FILE", "--output", "--model", "--subject", "--style", "--sampler",
                         "--steps", "--seed", "--shard", "--status", "--fail-fast", "--dry-run"}};
}

void run_batch(const BatchCommandOptions& options, const LogSession& log) {
  const RunOptions& run = options.defaults.run;
  if (options.status) {
    if (!options.files.empty() || options.defaults.output)
      throw ConfigError("--status DIR stands alone: it draws nothing");
    print_status(*options.status, run.json);
    return;
  }
  const CancellationToken& cancellation = handle_signals(run.quiet);
  refuse_unfit(options);
  BatchDrawOptions draw_options{.shard = options.shard.value_or(Shard{}),
                                .order = batch_order(options.order),
                                .redraw = options.defaults.on_exist == OnExist::kOverwrite,
                                .metadata = !options.defaults.no_metadata,
                                .fail_fast = options.fail_fast};
  take_batch_size(options.batch_size, draw_options);
  const PipelineOptions pipeline_options{.keep_loaded = true,
                                         .cache_bytes = cache_bytes(options.cache_memory_mb)};
  set_threads(options.defaults.machine.threads);

  const std::string& file = options.files.front();
  const std::string source = file == "-" ? "<stdin>" : file;
  const std::string text = read_list(file);
  const PromptList list =
      parse_prompt_list(text, source, options.format.value_or(guess_format(file, text)));
  const GenerateOptions defaults = with_prompts_read(options.defaults);
  const PromptRows rows(list, defaults, options.ignored_columns);
  if (!rows.problems().empty()) refuse(source, list.rows.size(), rows.problems());
  spdlog::info("checking {} rows of {}", rows.rows().size(), source);
  CheckedBatch batch = check_batch(rows.rows(), pipeline_options, cancellation);
  std::vector<ListProblem> problems;
  for (const auto& [row, failure] : batch.problems) problems.push_back(rows.describe(row, failure));
  if (!problems.empty()) refuse(source, list.rows.size(), problems);

  const fs::path folder = *options.defaults.output;
  if (options.defaults.dry_run) {
    print_plan(batch, draw_options.shard, folder, run.json);
    return;
  }
  const std::vector<std::string> files = picture_files(batch, draw_options.shard);
  if (options.defaults.on_exist == OnExist::kError) refuse_existing(files, folder);
  BatchFolder results(folder, draw_options.shard, std::ssize(list.rows), files);
  const std::unique_ptr<ProgressSink> progress =
      make_progress_display(options.defaults.machine.progress_style(run.quiet));
  const BatchSummary summary =
      draw_batch(batch, results, draw_options, {*progress, cancellation},
                 [&](const RowReport& report) { print_row(report, folder, run.json); });
  std::vector<std::pair<int64_t, std::string>> keys;
  for (const CheckedRow& row : batch.rows) keys.emplace_back(row.number, row.key);
  results.finish(keys);
  spdlog::info("{} rows drawn, {} there already, {} failed", summary.num_drawn, summary.num_skipped,
               summary.num_failed);
  repeat_warnings(log, run.quiet);
  if (summary.num_failed > 0)
    throw RowsFailedError(fmt::format(
        "{} of {} rows failed, see '{}'; the same command draws them again", summary.num_failed,
        summary.num_drawn + summary.num_skipped + summary.num_failed,
        (folder / results_name(draw_options.shard)).string()));
}

}  // namespace molar::cli
