#include "report_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

#include "machine_options.h"
#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "molar/io/json_config.h"
#include "option_binder.h"
#include "progress_display.h"
#include "report_writer.h"
#include "result_stream.h"
#include "signals.h"
#include "warnings.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kLeastThumbnail = 32, kMostThumbnail = 4096;

/// As ReportOptions has it.
std::optional<int64_t> thumbnail_px(const std::optional<std::string>& text) {
  if (!text || *text == "auto") return std::nullopt;
  if (*text == "whole") return 0;
  const auto refuse = [&] {
    throw ConfigError(fmt::format("--thumbnail '{}': wanted auto, whole, or {} to {} pixels", *text,
                                  kLeastThumbnail, kMostThumbnail));
  };
  if (text->empty() || text->size() > 4 || text->find_first_not_of("0123456789") != text->npos)
    refuse();
  const auto side = parse_value<int64_t>("--thumbnail", *text);
  if (side < kLeastThumbnail || side > kMostThumbnail) refuse();
  return side;
}

void check_beside(const std::string& column, const std::vector<std::string>& varying) {
  if (std::ranges::find(varying, column) != varying.end()) return;
  throw ConfigError(
      fmt::format("--beside '{}': the pictures do not differ in it; they differ in {}{}", column,
                  varying.empty() ? "nothing" : fmt::format("{}", fmt::join(varying, ", ")),
                  suggestion(column, varying)));
}

}  // namespace

CLI::App* register_report(CLI::App& program, ReportCommandOptions& o) {
  CLI::App* app =
      program.add_subcommand("report", "Show what a batch drew, as a web page and a picture");
  app->add_option("DIR", o.folders, "Folder that molar batch -o or molar grid -o made")
      ->group("What")
      ->configurable(false);
  OptionBinder what(*app, "What");
  what.value("--beside", o.beside, "COLUMN",
             "Lay this column's values out side by side at first (merge, seed, ...; the page can "
             "change it)");
  what.value("--thumbnail", o.thumbnail, "auto|whole|PX",
             "Pictures in the page: whole files, or JPEGs of PX pixels on the longer side (auto: "
             "whole up to 32 MB together, else 384, past 500 pictures 192)");
  OptionBinder output(*app, "Output");
  output.value("-o,--output", o.output, "DIR",
               "Folder for report.html and contact_sheet.png (DIR itself)");
  output.value("--on-exist", o.on_exist, "number|skip|overwrite|error",
               "Where those files exist (overwrite)");
  register_thread_option(*app, o.threads);
  register_progress_option(*app, o.progress);
  register_run_options(*app, o.run);
  return app;
}

CommandHelp report_help() {
  return {.usage = "DIR [options]",
          .examples = {"molar report out/", "molar report out/ --beside merge -o report/"},
          .common_options = {"DIR", "--beside", "--thumbnail", "--output", "--on-exist"}};
}

void run_report(const ReportCommandOptions& o, const LogSession& log) {
  if (o.folders.size() != 1)
    throw ConfigError(o.folders.empty() ? "no folder; wanted 'molar report DIR'"
                                        : fmt::format("one folder at a time, found '{}' and '{}'",
                                                      o.folders[0], o.folders[1]));
  const std::optional<int64_t> thumbnail = thumbnail_px(o.thumbnail);
  const CancellationToken& cancellation = handle_signals(o.run.quiet);
  set_threads(o.threads);
  const fs::path folder = o.folders.front(), output = o.output.value_or(folder);
  const OnExist on_exist = o.on_exist.value_or(OnExist::kOverwrite);
  const MachineOptions machine{.progress = o.progress};
  const std::unique_ptr<ProgressSink> progress =
      make_progress_display(machine.progress_style(o.run.quiet));
  const ReportedRun run = read_run(folder);
  const PictureReport report = make_report(
      run, {.page_folder = output, .beside = o.beside.value_or(""), .thumbnail_px = thumbnail},
      *progress, cancellation);
  if (o.beside) check_beside(*o.beside, report.varying_columns);
  if (report.num_on_sheet < std::ssize(run.pictures))
    spdlog::warn("the contact sheet has room for the first {} of {} pictures", report.num_on_sheet,
                 run.pictures.size());
  const fs::path page = write_page(report, run, output, on_exist);
  const fs::path sheet =
      write_picture(report.contact_sheet, output / "contact_sheet.png", on_exist);
  if (o.run.json) {
    write_result_json({{"schema", 1},
                       {"report", page.string()},
                       {"contact_sheet", sheet.string()},
                       {"pictures", run.pictures.size()},
                       {"unreadable", report.num_unreadable},
                       {"failed", run.failed.size()},
                       {"missing", run.missing},
                       {"thumbnail", report.thumbnail_px}});
  } else {
    write_result_line(page.string());
    write_result_line(sheet.string());
  }
  repeat_warnings(log, o.run.quiet);
}

}  // namespace molar::cli
