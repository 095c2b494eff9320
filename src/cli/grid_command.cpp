#include "grid_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "molar/evaluation/picture_table.h"
#include "molar/io/image.h"
#include "molar/io/value_list.h"
#include "option_binder.h"
#include "progress_display.h"
#include "report_writer.h"
#include "result_stream.h"
#include "signals.h"
#include "warnings.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxCells = 1024;
constexpr int64_t kLeastSide = 256;      // smaller pictures are enlarged, so that labels fit
constexpr double kMaxPixels = 64e6;      // of all cells
constexpr int64_t kMaxLineSide = 15000;  // of one line of cells; labels need the rest of 16384

struct GridAxis {
  std::string key;  // long name of an option
  std::vector<std::string> values;
};

GridAxis parse_axis(const std::string& option, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw ConfigError(fmt::format("{} '{}': wanted NAME=VALUES, such as seed=1,2,3", option, text));
  GridAxis axis{.key = prompt_key(text.substr(0, equals))};
  std::vector<std::string> names = picture_option_names();
  std::erase(names, "count");  // a cell is one picture
  if (std::ranges::find(names, axis.key) == names.end()) {
    const std::string near = suggestion(axis.key, names);
    throw ConfigError(fmt::format("{} {}: no option of a single picture{}", option, axis.key,
                                  near.empty() ? "; see 'molar grid --help'" : near));
  }
  axis.values =
      parse_value_list(text.substr(equals + 1), fmt::format("{} {}", option, axis.key), kMaxCells);
  return axis;
}

struct Grid {
  std::vector<GridAxis> axes;  // x, y; one of them may be absent
  std::optional<size_t> x, y;  // indices into axes

  const std::vector<std::string>& values(const std::optional<size_t>& axis) const {
    static const std::vector<std::string> kNone{""};
    return axis ? axes[*axis].values : kNone;
  }
  size_t num_cells() const { return values(x).size() * values(y).size(); }
};

Grid read_grid(const GridCommandOptions& o) {
  if (!o.x && !o.y)
    throw ConfigError("no axis; wanted --x NAME=VALUES, --y NAME=VALUES, such as --x seed=1,2,3");
  Grid grid;
  const auto add = [&](const char* option, const std::optional<std::string>& text,
                       std::optional<size_t>& index) {
    if (!text) return;
    index = grid.axes.size();
    grid.axes.push_back(parse_axis(option, *text));
  };
  add("--x", o.x, grid.x);
  add("--y", o.y, grid.y);
  if (grid.axes.size() == 2 && grid.axes[0].key == grid.axes[1].key)
    throw ConfigError(fmt::format("--x and --y are both {}; wanted two options", grid.axes[0].key));
  if (grid.num_cells() > kMaxCells)
    throw ConfigError(fmt::format("{} x {} values are {} cells; the most is {}",
                                  grid.values(grid.x).size(), grid.values(grid.y).size(),
                                  grid.num_cells(), kMaxCells));
  return grid;
}

/// A row for each cell, line by line.
PromptList rows_of(const Grid& grid) {
  PromptList list{.source = "grid"};
  for (const std::string& y : grid.values(grid.y))
    for (const std::string& x : grid.values(grid.x)) {
      PromptRow row;
      const auto add = [&](const std::optional<size_t>& axis, const std::string& value) {
        if (!axis) return;
        const std::string& key = grid.axes[*axis].key;
        row.cells.push_back({key, prompt_values(key, value), {}});
        row.name += fmt::format("{}{}={}", row.name.empty() ? "" : ", ", key, value);
      };
      add(grid.x, x);
      add(grid.y, y);
      list.rows.push_back(std::move(row));
    }
  return list;
}

/// "style-weight 0.4"; of files their names: the label's room is small.
std::string axis_label(const std::string& key, std::string value) {
  constexpr std::string_view kExtension = ".safetensors";
  if (const size_t slash = value.rfind('/'); key != "prompt" && slash != std::string::npos)
    value.erase(0, slash + 1);
  if (const size_t at = value.find(kExtension); at != std::string::npos)
    value.erase(at, kExtension.size());
  return fmt::format("{} {}", key, value);
}

/// The report's column that an option changes: a strength stands behind its file there.
std::string column_of(const std::string& key) {
  constexpr std::string_view kWeight = "-weight";
  return key.ends_with(kWeight) ? key.substr(0, key.size() - kWeight.size()) : key;
}

std::vector<std::string> axis_labels(const Grid& grid, const std::optional<size_t>& axis) {
  std::vector<std::string> labels;
  if (axis)
    for (const std::string& value : grid.values(axis))
      labels.push_back(axis_label(grid.axes[*axis].key, value));
  return labels;
}

/// Pictures of 64 pixels are enlarged, so that labels fit; large ones keep their size while the
/// grid is one that viewers open.
int64_t cell_side(const Grid& grid, const std::vector<Tensor>& pictures) {
  int64_t side = kLeastSide;
  for (const Tensor& picture : pictures)
    if (picture.defined()) side = std::max({side, picture.size(0), picture.size(1)});
  const auto by_area =
      static_cast<int64_t>(std::sqrt(kMaxPixels / static_cast<double>(grid.num_cells())));
  const auto longest =
      static_cast<int64_t>(std::max(grid.values(grid.x).size(), grid.values(grid.y).size()));
  return std::min({side, by_area, kMaxLineSide / longest});
}

/// All cells in one picture; failed ones with their errors.
Tensor draw_grid(const Grid& grid, const CheckedBatch& batch, const ReportedRun& run,
                 const fs::path& folder, const GenerateOptions& defaults) {
  std::vector<Tensor> pictures(batch.rows.size());
  PictureTable table{.num_columns = std::ssize(grid.values(grid.x)),
                     .column_labels = axis_labels(grid, grid.x),
                     .row_labels = axis_labels(grid, grid.y),
                     .title = defaults.prompt.value_or("")};
  table.cells.resize(batch.rows.size());
  for (const FailedRow& row : run.failed)
    table.cells.at(static_cast<size_t>(row.row - 1)).text = "failed: " + row.error;
  for (const CheckedRow& row : batch.rows) {
    const auto index = static_cast<size_t>(row.number - 1);
    if (table.cells[index].text.empty())
      pictures[index] = read_image(folder / row.pictures.front().file);
  }
  const int64_t side = cell_side(grid, pictures);
  for (size_t i = 0; i < pictures.size(); ++i)
    if (pictures[i].defined()) table.cells[i].pixels = fitted(pictures[i], side);
  return draw_table(table);
}

void refuse_unfit(const GenerateOptions& defaults, const Grid& grid) {
  require_output_folder(defaults);
  if (defaults.count.value_or(1) != 1)
    throw ConfigError(
        fmt::format("--count {}: a cell is one picture; wanted an axis, such as --x seed=1,2,3",
                    *defaults.count));
  const bool has_prompt =
      std::ranges::any_of(grid.axes, [](const GridAxis& axis) { return axis.key == "prompt"; });
  if (!defaults.prompt && !has_prompt)
    throw ConfigError("no prompt; wanted -p \"TEXT\", or --x 'prompt=a dog,a cat'");
}

}  // namespace

CLI::App* register_grid(CLI::App& program, GridCommandOptions& o) {
  CLI::App* app = program.add_subcommand("grid", "Draw every pair of two options' values");
  OptionBinder axes(*app, "Axes");
  axes.value("--x", o.x, "NAME=VALUES",
             "An option of a picture and its values from left to right: 1,2,3 (\"...\" around "
             "those with a comma) or FIRST:LAST:STEP");
  axes.value("--y", o.y, "NAME=VALUES", "The same from top to bottom");
  register_drawing_options(*app, o.speed);
  register_picture_options(*app, o.defaults);
  OptionBinder output(*app, "Output");
  output.value("-o,--output", o.defaults.output, "DIR",
               "Folder for the pictures, grid.png, report.html and results.jsonl");
  output.value("--on-exist", o.defaults.on_exist, "skip|overwrite|error",
               "What to do with pictures that are there (skip)");
  output.flag("--dry-run", o.defaults.dry_run, "Check every cell and print the plan");
  register_machine_options(*app, o.defaults.machine);
  register_run_options(*app, o.defaults.run);
  return app;
}

CommandHelp grid_help() {
  return {
      .usage = "--x NAME=VALUES --y NAME=VALUES -p TEXT -o DIR [options of generate]",
      .examples = {"molar grid --x seed=1,2,3 --y style-weight=0.4:1.2:0.2 -p \"a dog in ink\" "
                   "--style ink.safetensors -o grid/",
                   "molar grid --x merge=np,lorarar,direct --y 'prompt=\"a dog, running\",a dog' "
                   "--subject dog.safetensors --style ink.safetensors -s 1 -o grid/"},
      .common_options = {"--x", "--y", "--prompt", "--output", "--model", "--subject", "--style",
                         "--sampler", "--steps", "--seed", "--dry-run"}};
}

void run_grid(const GridCommandOptions& options, const LogSession& log) {
  const Grid grid = read_grid(options);
  refuse_unfit(options.defaults, grid);
  const RunOptions& run = options.defaults.run;
  const CancellationToken& cancellation = handle_signals(run.quiet);
  RowDrawing drawing = resolve_drawing(options.defaults, options.speed);
  drawing.source = "grid";
  set_threads(options.defaults.machine.threads);

  const PromptList list = rows_of(grid);
  const GenerateOptions defaults = with_prompts_read(options.defaults);
  const PromptRows rows(list, defaults, {});
  CheckedBatch batch = check_rows(rows, drawing, cancellation);
  if (defaults.dry_run) {
    print_plan(batch, drawing);
    return;
  }
  const BatchSummary summary = draw_rows(batch, drawing, cancellation);

  const ReportedRun results = read_run(drawing.folder);
  const std::unique_ptr<ProgressSink> progress = make_progress_display(drawing.progress);
  const PictureReport report = make_report(
      results,
      {.page_folder = drawing.folder, .beside = grid.x ? column_of(grid.axes[*grid.x].key) : ""},
      *progress, cancellation);
  const fs::path page = write_page(report, results, drawing.folder, OnExist::kOverwrite);
  const fs::path picture = write_picture(draw_grid(grid, batch, results, drawing.folder, defaults),
                                         drawing.folder / "grid.png", OnExist::kOverwrite);
  if (run.json) {
    write_result_json({{"schema", 1},
                       {"grid", picture.string()},
                       {"report", page.string()},
                       {"cells", list.rows.size()},
                       {"failed", summary.num_failed}});
  } else {
    write_result_line(picture.string());
    write_result_line(page.string());
  }
  repeat_warnings(log, run.quiet);
  require_all_drawn(summary, drawing);
}

}  // namespace molar::cli
