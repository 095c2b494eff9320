/// The folder of a batch: pictures whose names say what they are, and a line for every row.
///
///   00001-1a2b3c4d5e6f.png       row 1 (from 1), key of its content; several pictures of a row:
///                                00001-1a2b3c4d5e6f-0.png, -1, ...
///   results.jsonl                a line a row; results.0-of-4.jsonl for --shard 0/4
///   batch.json                   how many rows the list has
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "molar/core/error.h"
#include "molar/io/json_config.h"
#include "molar/io/line_journal.h"

namespace molar {

/// Rows whose number leaves `index` when divided by `count`.
struct Shard {
  int64_t index = 0, count = 1;
  bool has(int64_t row) const { return row % count == index; }
};

/// "results.jsonl", "results.0-of-4.jsonl".
std::string results_name(const Shard& shard);
std::string picture_name(int64_t row, const std::string& key, int64_t index, int64_t count);

struct RowPicture {
  std::string file;  ///< in the batch's folder
  uint64_t seed = 0;
};

/// How a row ended. Nothing in it depends on when or how fast it was drawn.
struct RowResult {
  int64_t row = 0;
  std::string key;
  std::vector<RowPicture> pictures;  ///< empty where it failed
  std::string error;                 ///< empty where it is done
  ExitCode exit_code = ExitCode::kOk;
  Json request;  ///< what was asked for, where it failed: no picture says it

  bool done() const { return error.empty(); }
  /// {"schema": 1, "row": ..., "key": ..., "status": "done" or "failed", ...}
  Json to_json() const;
  /// Throws Json::exception for another object. Failed rows of earlier versions have no request.
  static RowResult from_json(const Json& json);
};

/// One process's shard of a folder. Call order: (record)* -> [finish].
class BatchFolder {
 public:
  /// Makes the folder, takes its results for this process and reads them; drops lines that are none
  /// (a killed process, an editor) with a warning. `own_files`: names of pictures of this shard, of
  /// which an unfinished write may have left parts. Throws FileError: another run has it, it cannot
  /// be written.
  BatchFolder(const std::filesystem::path& folder, const Shard& shard, int64_t num_rows,
              const std::vector<std::string>& own_files);

  std::filesystem::path path(const std::string& file) const { return folder_ / file; }
  bool has(const std::string& file) const;
  /// The latest of a row and key.
  const RowResult* find(int64_t row, const std::string& key) const;

  /// On the disk when it returns; nothing is written where it is known.
  void record(const RowResult& result);
  /// One line a row, in the list's order: the file of an uninterrupted run. Lines about pictures
  /// of other lists stay, before those of this one.
  void finish(const std::vector<std::pair<int64_t, std::string>>& rows);

 private:
  void read_results();
  void remove_parts(const std::vector<std::string>& own_files) const;
  void write_row_count(int64_t num_rows) const;

  std::filesystem::path folder_;
  std::unique_ptr<LineJournal> journal_;
  std::vector<std::string> lines_;  // as they stand in the file
  std::map<std::pair<int64_t, std::string>, RowResult> results_;
};

/// What a folder's results say, over all its shards.
struct BatchResults {
  int64_t num_rows = 0;
  std::map<int64_t, RowResult> rows;  ///< the latest of each that has one, in [1, num_rows]
  int64_t num_broken = 0;             ///< lines that are no results
};

/// Throws FileError where `folder` holds no batch.
BatchResults read_batch_results(const std::filesystem::path& folder);

/// How far a folder is, over all its shards.
struct BatchStatus {
  int64_t num_rows = 0, num_done = 0;
  std::vector<RowResult> failed;
  std::vector<int64_t> missing;  ///< rows without a result, or without their pictures
};

/// Throws FileError where `folder` holds no batch.
BatchStatus read_batch_status(const std::filesystem::path& folder);

}  // namespace molar
