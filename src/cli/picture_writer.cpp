#include "picture_writer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "molar/core/error.h"
#include "molar/io/image.h"
#include "molar/pipeline/output_path.h"
#include "result_stream.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr int kSchema = 1;

/// Minutes of drawing must not end at a folder that nobody may write to.
void check_folder(const fs::path& target) {
  (void)fs::symlink_status(target);  // throws for no possible name: too long, or beyond a loop
  fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  while (!fs::exists(folder)) {  // folders on the way are made when the picture is written
    const fs::path parent = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
    if (parent == folder) break;
    folder = parent;
  }
  if (!fs::is_directory(folder))
    throw FileError(
        fmt::format("cannot write '{}': '{}' is not a folder", target.string(), folder.string()));
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw FileError(fmt::format("cannot write '{}': {}", target.string(), std::strerror(errno)));
}

}  // namespace

PictureWriter::PictureWriter(PictureWriterOptions options, const GenerationRequest& request)
    : options_(std::move(options)) {
  if (options_.heatmaps) check_folder(*options_.heatmaps / "map.png");
  if (to_stdout()) {
    if (options_.json)
      throw ConfigError("-o - and --json both want standard output; give one of them");
    if (request.count > 1)
      throw ConfigError(
          fmt::format("-o - takes one picture, found --count {}; wanted a folder or a template",
                      request.count));
    if (stdout_is_terminal())
      throw ConfigError(
          "-o - would write PNG bytes to a terminal; redirect it to a file or a pipe");
    plan_.push_back({request.seed, "-", false});
    return;
  }
  std::map<fs::path, NumberedNames> names;  // per target, for those that share one
  for (int64_t row = 0; row < request.count; ++row) {
    const uint64_t seed = request.seed + static_cast<uint64_t>(row);
    const fs::path target = output_path(options_.output, {seed, row, path_name(request.prompt)});
    const auto [name, is_new] = names.try_emplace(target.lexically_normal(), target);
    if (!is_new && options_.on_exist != OnExist::kNumber)
      throw ConfigError(
          fmt::format("-o '{}' names one file for {} pictures; wanted {{seed}} or {{row}} in it",
                      options_.output, request.count));
    check_folder(target);
    const fs::path path = options_.on_exist == OnExist::kNumber
                              ? name->second.next()
                              : resolve_target(target, options_.on_exist);
    plan_.push_back({seed, path, options_.on_exist == OnExist::kSkip && is_taken(path)});
    targets_.push_back(target);
  }
}

bool PictureWriter::nothing_to_draw() const {
  return std::all_of(plan_.begin(), plan_.end(),
                     [](const PlannedPicture& picture) { return picture.exists; });
}

/// DIR/<picture>-<expert>-step-01.png for each evaluation that the experts acted in, and
/// DIR/<picture>-global-gates.svg. They belong to the picture: those of an earlier one of its name
/// are replaced.
void PictureWriter::write_heatmaps(const fs::path& picture_path, const Picture& picture) const {
  if (!options_.heatmaps || !picture.gates) return;
  const GateTrace& trace = *picture.gates;
  const auto write_file = [&](const std::string& name, const std::string& bytes) {
    write_file_atomically(*options_.heatmaps / name, OnExist::kOverwrite,
                          [&](const ByteSink& sink) { sink(bytes); });
  };
  const std::string stem = picture_path.stem().string();
  for (size_t i = 0; i < trace.steps.size(); ++i)
    for (size_t e = 0; e < trace.experts.size() && !trace.steps[i].levels.empty(); ++e)
      write_file(fmt::format("{}-{}-step-{:02}.png", stem, trace.experts[e], i + 1),
                 encode_png(heatmap(picture.pixels, trace.steps[i], e), {}));
  write_file(stem + "-global-gates.svg", global_gates_svg(trace));
  spdlog::info("gates of '{}' written to '{}'", picture_path.string(), options_.heatmaps->string());
}

void PictureWriter::write(size_t index, const Picture& picture,
                          const std::vector<std::string>& warnings) {
  const std::string png =
      encode_png(picture.pixels, options_.metadata ? picture.record.png_text() : PngText{});
  if (to_stdout()) {
    write_heatmaps(fmt::format("molar-{}.png", plan_[index].seed), picture);
    write_result(png);
    return;
  }
  const WrittenFile file = write_file_atomically(targets_[index], options_.on_exist,
                                                 [&](const ByteSink& sink) { sink(png); });
  if (!file.written) {  // it appeared since the plan was made
    report_skipped(index);
    return;
  }
  write_heatmaps(file.path, picture);
  if (!options_.json) {
    write_result_line(file.path.string());
    return;
  }
  Json result = {{"schema", kSchema},
                 {"path", file.path.string()},
                 {"skipped", false},
                 {"seed", plan_[index].seed},
                 {"width", picture.pixels.size(1)},
                 {"height", picture.pixels.size(0)},
                 {"record", picture.record.to_json()},
                 {"warnings", warnings}};
  result.update(picture.timings.to_json());
  write_result_json(result);
}

void PictureWriter::report_skipped(size_t index) const {
  const PlannedPicture& picture = plan_[index];
  spdlog::info("'{}' exists, skipped", picture.path.string());
  if (!options_.json) {
    write_result_line(picture.path.string());
    return;
  }
  write_result_json({{"schema", kSchema},
                     {"path", picture.path.string()},
                     {"skipped", true},
                     {"seed", picture.seed}});
}

}  // namespace molar::cli
