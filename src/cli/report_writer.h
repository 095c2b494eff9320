/// A batch's folder -> the page and the sheet that show it; report and grid write them.
#pragma once

#include <filesystem>
#include <string>

#include "molar/core/atomic_file.h"
#include "molar/evaluation/picture_report.h"

namespace molar::cli {

/// Everything that the folder's results say. Warns of lines that are none. Throws FileError where
/// it holds no batch.
ReportedRun read_run(const std::filesystem::path& folder);

/// Writes `folder`/report.html and returns its path. Warns of pictures that are missing or broken.
std::filesystem::path write_page(const PictureReport& report, const ReportedRun& run,
                                 const std::filesystem::path& folder, OnExist on_exist);

/// Where the file went.
std::filesystem::path write_picture(const Tensor& pixels, const std::filesystem::path& target,
                                    OnExist on_exist);

}  // namespace molar::cli
