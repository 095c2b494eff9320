#include "batch_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>
#include <iterator>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "option_binder.h"
#include "prompt_rows.h"
#include "result_stream.h"
#include "row_drawing.h"
#include "signals.h"
#include "text.h"
#include "warnings.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxListBytes = 1 << 28;

std::string read_list(const std::string& file) {
  if (file != "-") return read_file(file, kMaxListBytes);
  std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  if (text.size() > kMaxListBytes)
    throw InputError(
        fmt::format("standard input has {} bytes, more than the {} that a list may have",
                    text.size(), kMaxListBytes));
  return text;
}

/// Options of generate that a batch has no use for.
void refuse_unfit(const BatchCommandOptions& options) {
  if (options.files.size() != 1)
    throw ConfigError(options.files.empty()
                          ? "no list; wanted 'molar batch FILE -o DIR', '-' for standard input"
                          : fmt::format("one list at a time, found '{}' and '{}'", options.files[0],
                                        options.files[1]));
  require_output_folder(options.defaults);
}

void print_status(const fs::path& folder, bool json) {
  const BatchStatus status = read_batch_status(folder);
  Json failed = Json::array();
  for (const RowResult& result : status.failed) failed.push_back(result.to_json());
  if (json) {
    write_result_json({{"schema", 1},
                       {"rows", status.num_rows},
                       {"done", status.num_done},
                       {"failed", failed},
                       {"missing", status.missing}});
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

  register_drawing_options(*app, o.speed);
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
  RowDrawing drawing = resolve_drawing(options.defaults, options.speed);
  drawing.draw.shard = options.shard.value_or(Shard{});
  drawing.draw.fail_fast = options.fail_fast;
  set_threads(options.defaults.machine.threads);

  const std::string& file = options.files.front();
  drawing.source = file == "-" ? "<stdin>" : file;
  const std::string text = read_list(file);
  const PromptList list =
      parse_prompt_list(text, drawing.source, options.format.value_or(guess_format(file, text)));
  const GenerateOptions defaults = with_prompts_read(options.defaults);
  const PromptRows rows(list, defaults, options.ignored_columns);
  CheckedBatch batch = check_rows(rows, drawing, cancellation);
  if (options.defaults.dry_run) {
    print_plan(batch, drawing);
    return;
  }
  const BatchSummary summary = draw_rows(batch, drawing, cancellation);
  repeat_warnings(log, run.quiet);
  require_all_drawn(summary, drawing);
}

}  // namespace molar::cli
