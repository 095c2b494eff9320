#include "molar/evaluation/picture_report.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <system_error>

#include "molar/core/error.h"
#include "molar/core/failure.h"
#include "molar/core/markup.h"
#include "molar/core/parallel_tasks.h"
#include "molar/evaluation/labelled_picture.h"
#include "molar/evaluation/picture_table.h"
#include "molar/io/file.h"
#include "molar/io/image.h"
#include "report_columns.h"
#include "report_page.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxPictureBytes = 1ULL << 30;
constexpr uintmax_t kMaxWholeBytes = 32'000'000;  // of all pictures in a page
constexpr int64_t kManyPictures = 500, kThumbnail = 384, kSmallThumbnail = 192;
constexpr int64_t kMaxOnSheet = 10'000;
constexpr int64_t kNarrowCell = 128;  // has room for one line
constexpr int64_t kChunk = 64;        // pictures between two looks at progress and signals
constexpr int kQuality = 85;

/// A picture as the page and the sheet show it.
struct ShownPicture {
  Json record;          // null: none
  std::string problem;  // empty: it can be read
  std::string source;   // data URI
  PictureSize size;     // of what `source` holds
  Tensor tile;          // for the sheet
  ColumnValues values;
};

int64_t chosen_thumbnail(const ReportedRun& run, const ReportOptions& options) {
  if (options.thumbnail_px) return *options.thumbnail_px;
  uintmax_t bytes = 0;
  for (const ReportedPicture& picture : run.pictures) {
    std::error_code error;  // what cannot be read is told where it is read
    const uintmax_t size = fs::file_size(picture.path, error);
    if (!error) bytes += size;
  }
  if (bytes <= kMaxWholeBytes) return 0;
  return std::ssize(run.pictures) > kManyPictures ? kSmallThumbnail : kThumbnail;
}

ShownPicture read_picture(const ReportedPicture& picture, int64_t thumbnail_px, int64_t tile_side) {
  ShownPicture shown;
  try {
    const Tensor pixels = read_image(picture.path);
    if (const auto record = read_record(picture.path)) shown.record = *record;
    const int64_t height = pixels.size(0), width = pixels.size(1);
    if (thumbnail_px == 0 || std::max(width, height) <= thumbnail_px) {
      shown.size = {width, height};
      shown.source = "data:image/png;base64," + base64(read_file(picture.path, kMaxPictureBytes));
    } else {
      const Tensor thumbnail = fitted(pixels, thumbnail_px);
      shown.size = {thumbnail.size(1), thumbnail.size(0)};
      shown.source = "data:image/jpeg;base64," + base64(encode_jpeg(thumbnail, kQuality));
    }
    if (tile_side > 0) shown.tile = fitted(pixels, tile_side);
    shown.values = record_columns(shown.record);
  } catch (const Error& error) {
    const bool missing = !fs::exists(fs::symlink_status(picture.path));
    shown = {.problem = missing ? fmt::format("missing: {}", picture.path.filename().string())
                                : fmt::format("cannot be read: {}", error.what())};
  }
  shown.values["seed"] = std::to_string(picture.seed);
  return shown;
}

std::vector<ShownPicture> read_pictures(const ReportedRun& run, int64_t thumbnail_px,
                                        ProgressSink& progress,
                                        const CancellationToken& cancellation) {
  const int64_t count = std::ssize(run.pictures);
  const int64_t num_on_sheet = std::min(count, kMaxOnSheet);
  const int64_t side = sheet_cell_side(num_on_sheet);
  std::vector<ShownPicture> shown(run.pictures.size());
  progress.begin("reading pictures", count);
  for (int64_t start = 0; start < count; start += kChunk) {
    const int64_t length = std::min(kChunk, count - start);
    parallel_tasks(length, [&](int64_t i) {
      const auto index = static_cast<size_t>(start + i);
      shown[index] =
          read_picture(run.pictures[index], thumbnail_px, start + i < num_on_sheet ? side : 0);
    });
    for (int64_t i = 0; i < length; ++i) progress.advance();
    cancellation.stop_here_if_requested();
  }
  progress.end();
  return shown;
}

struct Column {
  std::string name;
  bool varies = false;
};

/// A column varies where two pictures differ in it that both say what they are: one that cannot be
/// read says nothing.
std::vector<Column> columns_of(const std::vector<ShownPicture>& pictures) {
  std::vector<ColumnValues> told;
  for (const ShownPicture& picture : pictures)
    if (!picture.record.is_null()) told.push_back(picture.values);
  if (told.empty())
    for (const ShownPicture& picture : pictures) told.push_back(picture.values);
  std::vector<Column> columns;
  for (const std::string& name : column_order(told)) {
    std::set<std::string> values;
    for (const ColumnValues& row : told) {
      const auto found = row.find(name);
      values.insert(found == row.end() ? "" : found->second);
    }
    columns.push_back({name, values.size() > 1});
  }
  return columns;
}

std::string value_of(const ColumnValues& values, const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? "" : found->second;
}

/// "prompt: a dog, seed: 3" of what is set.
std::string asked_text(const Json& request) {
  const ColumnValues values = request_columns(request);
  std::vector<std::string> parts;
  for (const std::string& name : column_order({values}))
    if (const std::string value = value_of(values, name);
        !value.empty() && value != "false" && value != "0.0")
      parts.push_back(fmt::format("{}: {}", name, value));
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string counted(int64_t count, const char* one, const char* more) {
  return fmt::format("{} {}", count, count == 1 ? one : more);
}

Json counts_json(const ReportedRun& run, int64_t num_unreadable) {
  Json counts = Json::array();
  counts.push_back(
      {{"text", counted(std::ssize(run.pictures), "picture", "pictures")}, {"bad", false}});
  const auto add = [&](int64_t count, const char* one, const char* more) {
    if (count > 0) counts.push_back({{"text", counted(count, one, more)}, {"bad", true}});
  };
  add(num_unreadable, "of them is missing or broken", "of them are missing or broken");
  add(std::ssize(run.failed), "row failed", "rows failed");
  add(std::ssize(run.missing), "row not drawn yet", "rows not drawn yet");
  return counts;
}

/// The picture's file, as a link from the page.
std::string link_to(const fs::path& picture, const fs::path& page_folder) {
  const std::string path =
      fs::absolute(picture)
          .lexically_normal()
          .lexically_relative(fs::absolute(page_folder / "x").lexically_normal().parent_path())
          .generic_string();
  std::string link = path.find(':') == std::string::npos ? "" : "./";  // "a:b" would be a scheme
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain =
        std::isalnum(byte) != 0 || std::string_view("-_.~/:").find(c) != std::string_view::npos;
    link += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return link;
}

Json page_data(const ReportedRun& run, const ReportOptions& options,
               const std::vector<ShownPicture>& shown, const std::vector<Column>& columns,
               int64_t num_unreadable) {
  Json data{{"schema", 1},
            {"beside", options.beside},
            {"columns", Json::array()},
            {"counts", counts_json(run, num_unreadable)},
            {"pictures", Json::array()},
            {"failed", Json::array()},
            {"missing", ranges_text(run.missing)}};
  for (const Column& column : columns)
    data["columns"].push_back({{"name", column.name}, {"varies", column.varies}});
  for (size_t i = 0; i < shown.size(); ++i) {
    const ReportedPicture& picture = run.pictures[i];
    Json values = Json::array();
    for (const Column& column : columns) values.push_back(value_of(shown[i].values, column.name));
    data["pictures"].push_back({{"row", picture.row},
                                {"file", picture.path.filename().string()},
                                {"link", link_to(picture.path, options.page_folder)},
                                {"values", std::move(values)},
                                {"alt", value_of(shown[i].values, "prompt")},
                                {"source", shown[i].source},
                                {"size", {shown[i].size.width, shown[i].size.height}},
                                {"problem", shown[i].problem},
                                {"record", shown[i].record}});
  }
  for (const FailedRow& row : run.failed)
    data["failed"].push_back({{"row", row.row},
                              {"error", row.error},
                              {"exit_code", row.exit_code},
                              {"asked", asked_text(row.request)},
                              {"request", row.request}});
  return data;
}

/// "12 merge=np, seed=3": what sets a picture apart, the prompt last because it is long.
std::string sheet_label(const ReportedPicture& picture, const ShownPicture& shown,
                        const std::vector<Column>& columns) {
  std::vector<std::string> parts;
  std::string prompt;
  for (const Column& column : columns) {
    const std::string value = value_of(shown.values, column.name);
    if (!column.varies || value.empty()) continue;
    if (column.name == "prompt")
      prompt = value;
    else
      parts.push_back(fmt::format("{}={}", column.name, value));
  }
  if (!prompt.empty()) parts.push_back(prompt);
  return fmt::format("{} {}", picture.row, fmt::join(parts, ", "));
}

Tensor contact_sheet(const ReportedRun& run, const std::vector<ShownPicture>& shown,
                     const std::vector<Column>& columns, int64_t num_unreadable) {
  const int64_t count = std::min(std::ssize(shown), kMaxOnSheet);
  PictureTable table{.num_columns = sheet_columns(count), .title = run.title};
  for (const Json& part : counts_json(run, num_unreadable))
    table.title += " - " + part["text"].get<std::string>();
  if (count < std::ssize(shown)) table.title += fmt::format(" (the first {})", count);
  if (sheet_cell_side(count) < kNarrowCell) table.max_label_lines = 1;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i)
    table.cells.push_back({.pixels = shown[i].tile,
                           .label = sheet_label(run.pictures[i], shown[i], columns),
                           .text = shown[i].problem});
  return draw_table(table);
}

}  // namespace

std::string ranges_text(const std::vector<int64_t>& ascending) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < ascending.size();) {
    size_t last = i;
    while (last + 1 < ascending.size() && ascending[last + 1] == ascending[last] + 1) ++last;
    parts.push_back(last == i ? std::to_string(ascending[i])
                              : fmt::format("{}-{}", ascending[i], ascending[last]));
    i = last + 1;
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

PictureReport make_report(const ReportedRun& run, const ReportOptions& options,
                          ProgressSink& progress, const CancellationToken& cancellation) {
  PictureReport report{.num_on_sheet = std::min(std::ssize(run.pictures), kMaxOnSheet),
                       .thumbnail_px = chosen_thumbnail(run, options)};
  const std::vector<ShownPicture> shown =
      read_pictures(run, report.thumbnail_px, progress, cancellation);
  report.num_unreadable =
      std::ranges::count_if(shown, [](const ShownPicture& one) { return !one.problem.empty(); });
  const std::vector<Column> columns = columns_of(shown);
  for (const Column& column : columns)
    if (column.varies) report.varying_columns.push_back(column.name);
  report.page =
      fill_report_page(run.title, page_data(run, options, shown, columns, report.num_unreadable));
  report.contact_sheet = contact_sheet(run, shown, columns, report.num_unreadable);
  return report;
}

}  // namespace molar
