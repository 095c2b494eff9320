/// What a run drew, for people: a web page of one file, and a contact sheet.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/progress.h"
#include "molar/core/tensor.h"
#include "molar/io/json_config.h"

namespace molar {

struct ReportedPicture {
  int64_t row = 0;
  uint64_t seed = 0;
  std::filesystem::path path;
};

struct FailedRow {
  int64_t row = 0;
  std::string error;
  int exit_code = 0;
  Json request;  ///< what was asked for, under the long option names; null: not known
};

/// What a run's folder holds.
struct ReportedRun {
  std::string title;
  std::vector<ReportedPicture> pictures;
  std::vector<FailedRow> failed;
  std::vector<int64_t> missing;  ///< rows that were not drawn, ascending
};

struct ReportOptions {
  std::filesystem::path page_folder;  ///< where the page will lie: its links lead from there
  std::string beside;  ///< column laid out side by side at first; none where it does not vary
  /// Longer side of the JPEGs in the page; 0: the files as they are; nullopt: those while they
  /// have 32 MB together, else 384 pixels, for more than 500 pictures 192.
  std::optional<int64_t> thumbnail_px;
};

struct PictureReport {
  std::string page;            ///< HTML that loads nothing from elsewhere
  Tensor contact_sheet;        ///< uint8 [H, W, 3]
  int64_t num_unreadable = 0;  ///< pictures that are missing or broken: both show them as such
  int64_t num_on_sheet = 0;    ///< the first ones; a PNG has no room for more than 10,000
  int64_t thumbnail_px = 0;    ///< as in ReportOptions
  std::vector<std::string> varying_columns;
};

/// Pictures' columns are the options in their records: prompt, seed, merge, ... Throws
/// StoppedError.
PictureReport make_report(const ReportedRun& run, const ReportOptions& options,
                          ProgressSink& progress, const CancellationToken& cancellation);

/// "1-3, 7" of {1, 2, 3, 7}.
std::string ranges_text(const std::vector<int64_t>& ascending);

}  // namespace molar
