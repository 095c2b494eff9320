#include "report_writer.h"

#include <spdlog/spdlog.h>

#include "molar/io/image.h"
#include "molar/pipeline/batch_folder.h"

namespace molar::cli {
namespace fs = std::filesystem;

ReportedRun read_run(const fs::path& folder) {
  const BatchResults results = read_batch_results(folder);
  if (results.num_broken > 0)
    spdlog::warn("'{}': {} line(s) that are no results are left out", folder.string(),
                 results.num_broken);
  ReportedRun run{.title =
                      (fs::absolute(folder) / "x").lexically_normal().parent_path().filename()};
  for (int64_t row = 1; row <= results.num_rows; ++row) {
    const auto found = results.rows.find(row);
    if (found == results.rows.end()) {
      run.missing.push_back(row);
      continue;
    }
    const RowResult& result = found->second;
    if (!result.done())
      run.failed.push_back({.row = row,
                            .error = result.error,
                            .exit_code = static_cast<int>(result.exit_code),
                            .request = result.request});
    for (const RowPicture& picture : result.pictures)
      run.pictures.push_back({.row = row, .seed = picture.seed, .path = folder / picture.file});
  }
  return run;
}

fs::path write_page(const PictureReport& report, const ReportedRun& run, const fs::path& folder,
                    OnExist on_exist) {
  if (report.num_unreadable > 0)
    spdlog::warn("{} of {} pictures are missing or broken; the report says which",
                 report.num_unreadable, run.pictures.size());
  return write_file_atomically(folder / "report.html", on_exist,
                               [&](const ByteSink& sink) { sink(report.page); })
      .path;
}

fs::path write_picture(const Tensor& pixels, const fs::path& target, OnExist on_exist) {
  const std::string png = encode_png(pixels, {});
  return write_file_atomically(target, on_exist, [&](const ByteSink& sink) { sink(png); }).path;
}

}  // namespace molar::cli
