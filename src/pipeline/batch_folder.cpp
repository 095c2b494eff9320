#include "molar/pipeline/batch_folder.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string_view>

#include "molar/core/atomic_file.h"
#include "molar/io/file.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr int kSchema = 1;
constexpr const char* kRowCount = "batch.json";
constexpr uint64_t kMaxBytes = 1ULL << 30;

/// What a line of results says; nullopt for a line that is none of ours. Pictures lie in the
/// folder itself: a name that leads elsewhere is none that a batch gave.
std::optional<RowResult> read_line(const std::string& line) try {
  RowResult result = RowResult::from_json(Json::parse(line));
  const bool inside = std::ranges::all_of(result.pictures, [](const RowPicture& picture) {
    return !picture.file.empty() && fs::path(picture.file).filename() == picture.file &&
           picture.file != "..";
  });
  return inside ? std::optional(std::move(result)) : std::nullopt;
} catch (const Json::exception&) {
  return std::nullopt;
}

/// "<name>.molar-<pid>-<n>": the name, else "".
std::string_view part_of(std::string_view file) {
  const size_t mark = file.rfind(".molar-");
  if (mark == std::string_view::npos) return {};
  const std::string_view numbers = file.substr(mark + 7);
  const bool ours = !numbers.empty() && std::ranges::all_of(numbers, [](unsigned char c) {
    return std::isdigit(c) != 0 || c == '-';
  });
  return ours ? file.substr(0, mark) : std::string_view{};
}

}  // namespace

std::string results_name(const Shard& shard) {
  return shard.count == 1 ? "results.jsonl"
                          : fmt::format("results.{}-of-{}.jsonl", shard.index, shard.count);
}

std::string picture_name(int64_t row, const std::string& key, int64_t index, int64_t count) {
  return count == 1 ? fmt::format("{:05}-{}.png", row, key)
                    : fmt::format("{:05}-{}-{}.png", row, key, index);
}

Json RowResult::to_json() const {
  Json json = {
      {"schema", kSchema}, {"row", row}, {"key", key}, {"status", done() ? "done" : "failed"}};
  if (done()) {
    json["pictures"] = Json::array();
    for (const RowPicture& picture : pictures)
      json["pictures"].push_back({{"file", picture.file}, {"seed", picture.seed}});
  } else {
    json["error"] = error;
    json["exit_code"] = static_cast<int>(exit_code);
    if (!request.is_null()) json["request"] = request;
  }
  return json;
}

RowResult RowResult::from_json(const Json& json) {
  RowResult result{.row = json.at("row").get<int64_t>(), .key = json.at("key").get<std::string>()};
  if (json.at("status").get<std::string>() == "done") {
    for (const Json& picture : json.at("pictures"))
      result.pictures.push_back(
          {picture.at("file").get<std::string>(), picture.at("seed").get<uint64_t>()});
  } else {
    result.error = json.at("error").get<std::string>();
    result.exit_code = static_cast<ExitCode>(json.at("exit_code").get<int>());
    result.request = json.value("request", Json());
  }
  return result;
}

BatchFolder::BatchFolder(const fs::path& folder, const Shard& shard, int64_t num_rows,
                         const std::vector<std::string>& own_files)
    : folder_(folder), journal_(std::make_unique<LineJournal>(folder / results_name(shard))) {
  read_results();
  std::vector<std::string> files = own_files;
  files.push_back(results_name(shard));
  files.emplace_back(kRowCount);
  remove_parts(files);
  write_row_count(num_rows);
}

void BatchFolder::read_results() {
  const LineJournal::Contents contents = journal_->read();
  lines_ = contents.lines;
  int64_t num_broken = contents.torn ? 1 : 0;
  for (const std::string& line : contents.lines) {
    if (auto result = read_line(line))
      results_[{result->row, result->key}] = std::move(*result);
    else
      ++num_broken;
  }
  if (num_broken > 0)
    spdlog::warn("'{}': {} line(s) that are no results are left out; the pictures count",
                 journal_->path().string(), num_broken);
}

/// Where files cannot be made without a name (NFS), a killed process leaves them behind.
void BatchFolder::remove_parts(const std::vector<std::string>& own_files) const {
  const std::set<std::string, std::less<>> ours(own_files.begin(), own_files.end());
  std::vector<fs::path> parts;
  for (const auto& entry : fs::directory_iterator(folder_))
    if (const std::string name = entry.path().filename().string(); ours.contains(part_of(name)))
      parts.push_back(entry.path());
  for (const fs::path& part : parts) {
    std::error_code error;  // one that cannot be removed harms nobody
    fs::remove(part, error);
  }
}

void BatchFolder::write_row_count(int64_t num_rows) const {
  const std::string text = dump_json({{"schema", kSchema}, {"rows", num_rows}}) + "\n";
  const fs::path file = folder_ / kRowCount;
  if (fs::exists(file) && read_file(file, kMaxBytes) == text) return;
  write_file_atomically(file, OnExist::kOverwrite, [&](const ByteSink& sink) { sink(text); });
}

bool BatchFolder::has(const std::string& file) const { return is_taken(path(file)); }

const RowResult* BatchFolder::find(int64_t row, const std::string& key) const {
  const auto found = results_.find({row, key});
  return found == results_.end() ? nullptr : &found->second;
}

void BatchFolder::record(const RowResult& result) {
  const std::string line = dump_json(result.to_json());
  if (const RowResult* known = find(result.row, result.key);
      known != nullptr && dump_json(known->to_json()) == line)
    return;
  journal_->append(line);
  lines_.push_back(line);
  results_[{result.row, result.key}] = result;
}

void BatchFolder::finish(const std::vector<std::pair<int64_t, std::string>>& rows) {
  const std::set<std::pair<int64_t, std::string>> current(rows.begin(), rows.end());
  std::vector<std::string> lines;
  // The last line about a row is the one that counts.
  for (const bool of_this_list : {false, true})
    for (const auto& [name, result] : results_)
      if (current.contains(name) == of_this_list && (of_this_list || result.done()))
        lines.push_back(dump_json(result.to_json()));
  if (lines != lines_) journal_->close_with(lines);
}

BatchResults read_batch_results(const fs::path& folder) {
  if (!fs::exists(folder / kRowCount))
    throw FileError(fmt::format("'{}' holds no batch; wanted a folder that molar batch -o made",
                                folder.string()));
  BatchResults results;
  const Json count = read_json_file(folder / kRowCount);
  results.num_rows = JsonConfig(count, kRowCount).get<int64_t>("rows");
  std::set<fs::path> files;  // shards in one order, whatever the folder's is
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("results.") && name.ends_with(".jsonl")) files.insert(entry.path());
  }
  for (const fs::path& file : files) {
    const std::string text = read_file(file, kMaxBytes);
    for (size_t start = 0, end = 0; (end = text.find('\n', start)) != std::string::npos;
         start = end + 1) {
      auto result = read_line(text.substr(start, end - start));
      if (!result)
        ++results.num_broken;
      else if (result->row >= 1 && result->row <= results.num_rows)
        results.rows[result->row] = std::move(*result);
    }
  }
  return results;
}

BatchStatus read_batch_status(const fs::path& folder) {
  const BatchResults results = read_batch_results(folder);
  BatchStatus status{.num_rows = results.num_rows};
  for (int64_t row = 1; row <= status.num_rows; ++row) {
    const auto found = results.rows.find(row);
    const bool whole = found != results.rows.end() && found->second.done() &&
                       std::ranges::all_of(found->second.pictures, [&](const RowPicture& picture) {
                         return fs::exists(folder / picture.file);
                       });
    if (whole)
      ++status.num_done;
    else if (found != results.rows.end() && !found->second.done())
      status.failed.push_back(found->second);
    else
      status.missing.push_back(row);
  }
  return status;
}

}  // namespace molar
