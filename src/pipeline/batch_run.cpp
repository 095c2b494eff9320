#include "molar/pipeline/batch_run.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "molar/core/atomic_file.h"
#include "molar/io/hash.h"
#include "molar/io/image.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

/// Of what a key covers; a new number where the same request draws other pictures than before.
constexpr int kKeyVersion = 1;
constexpr size_t kKeyLength = 12;
/// Latent pixels of the pictures that share a call, on the CPU and on a GPU, unless a number was
/// asked for: four of 512 x 512. Their activations lie in memory side by side.
constexpr int64_t kSharedPixels = 4 * 512 * 512;

Json request_json(const ModelRequest& model) {
  return {{"model", fs::absolute(model.model).string()}, {"vae", model.vae.string()},
          {"tokenizer", model.tokenizer.string()},       {"prediction_type", model.prediction_type},
          {"dtype", dtype_option(model.compute.dtype)},  {"device", model.compute.device.str()}};
}

/// Where the JSON of a request names a file whose hash is in no picture's record.
std::vector<Json*> unrecorded_files(Json& request) {
  std::vector<Json*> files;
  for (const char* option : {"init-image", "mask", "hypernet", "coefficients"})
    if (request.contains(option)) files.push_back(&request[option]);
  if (request.contains("region"))
    for (Json& region : request["region"])
      if (region.contains("mask")) files.push_back(&region["mask"]);
  return files;
}

/// Names rows by their content.
class RowKeys {
 public:
  /// The request without its seed, files as their content's hashes.
  Json content(const CheckedRequest& checked, const std::string& model_sha256,
               const ModelRequest& model) {
    Json json = checked.request.to_json();
    json.erase("seed");
    for (Json* file : unrecorded_files(json)) *file = sha256(file->get<std::string>());
    json["loras"] = Json::array();
    for (const char* role : {"subject", "style", "lora"}) json.erase(role);
    for (const LoraRecord& lora : checked.loras)
      json["loras"].push_back({lora.role, lora.sha256, lora.weight, lora.blocks});
    json["experts"] = Json::array();
    for (const char* option : {"mole", "expert"}) json.erase(option);
    for (const ExpertRecord& expert : checked.experts)
      json["experts"].push_back({expert.name, expert.sha256, expert.weight});
    json["model"] = model_sha256;
    json["dtype"] = dtype_option(model.compute.dtype);
    json["version"] = kKeyVersion;
    return json;
  }

  /// Decided by the content and by how many equal rows came before, so that neither a second run
  /// nor a row more elsewhere in the list changes it.
  uint64_t seed(const Json& content) {
    const std::string digest = sha256_hex(content.dump());
    const int64_t repetition = repetitions_[digest]++;
    return std::stoull(sha256_hex(fmt::format("{} {}", digest, repetition)).substr(0, 8), nullptr,
                       16);
  }

  /// Path -> hash of the files that content() read itself.
  std::map<std::string, std::string> file_hashes(const GenerationRequest& request) {
    std::map<std::string, std::string> hashes;
    Json json = request.to_json();
    for (const Json* file : unrecorded_files(json))
      hashes[file->get<std::string>()] = sha256(file->get<std::string>());
    return hashes;
  }

  static std::string key(Json content, uint64_t seed) {
    content["seed"] = seed;
    return sha256_hex(content.dump()).substr(0, kKeyLength);
  }

 private:
  const std::string& sha256(const std::string& path) {
    const auto [entry, is_new] = hashes_.try_emplace(path);
    if (is_new) entry->second = sha256_file(path);
    return entry->second;
  }

  std::map<std::string, std::string> hashes_;
  std::map<std::string, int64_t> repetitions_;
};

/// Models by what asks for them, opened once, a failure included.
class OpenedModels {
 public:
  explicit OpenedModels(const PipelineOptions& options) : options_(options) {}

  struct Entry {
    std::optional<size_t> index;  // into `models`
    std::string sha256;
    std::exception_ptr failure;
  };
  const Entry& open(const ModelRequest& request, std::vector<StableDiffusionPipeline>& models) {
    const auto [entry, is_new] = entries_.try_emplace(request_json(request).dump());
    if (is_new) {
      try {
        models.push_back(StableDiffusionPipeline::open(request, options_));
        entry->second.index = models.size() - 1;
        entry->second.sha256 = models.back().model_sha256();
      } catch (...) {
        entry->second.failure = std::current_exception();
      }
    }
    if (entry->second.failure) std::rethrow_exception(entry->second.failure);
    return entry->second;
  }

 private:
  PipelineOptions options_;
  std::map<std::string, Entry> entries_;
};

/// Progress of single pictures, told with the row that they belong to.
class RowProgress final : public ProgressSink {
 public:
  explicit RowProgress(ProgressSink& shown) : shown_(shown) {}
  ~RowProgress() override { end(); }
  RowProgress(const RowProgress&) = delete;
  RowProgress& operator=(const RowProgress&) = delete;

  void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }
  void begin(std::string_view label, int64_t total) override {
    end();  // a task that failed ended without a word
    shown_.begin(fmt::format("{}{}", prefix_, label), total);
    is_open_ = true;
  }
  void advance() override { shown_.advance(); }
  void end() override {
    if (std::exchange(is_open_, false)) shown_.end();
  }

 private:
  ProgressSink& shown_;
  std::string prefix_;
  bool is_open_ = false;
};

/// Draws the rows of one model after the other; keeps what it found out about each.
class BatchDrawing {
 public:
  BatchDrawing(CheckedBatch& batch, BatchFolder& folder, const BatchDrawOptions& options,
               RunContext context, const std::function<void(const RowReport&)>& report)
      : batch_(batch),
        folder_(folder),
        options_(options),
        progress_(context.progress),
        context_{progress_, context.cancellation},
        report_(report) {}

  BatchSummary draw() {
    for (size_t row = 0; row < batch_.rows.size(); ++row)
      if (options_.shard.has(batch_.rows[row].number)) plan_row(row);
    for (size_t model = 0; model < batch_.models.size() && !ended_; ++model) draw_model(model);
    return summary_;
  }

 private:
  struct Job {  // one picture
    size_t row;
    int64_t index;  // in the row
  };
  struct RowState {
    int64_t num_missing = 0;
    bool failed = false;
    std::vector<Json> timings;
  };

  bool is_there(const RowPicture& picture) const {
    return !options_.redraw && folder_.has(picture.file);
  }

  void plan_row(size_t row) {
    const CheckedRow& checked = batch_.rows[row];
    RowState& state = states_[row];
    for (size_t i = 0; i < checked.pictures.size(); ++i) {
      if (is_there(checked.pictures[i])) continue;
      ++state.num_missing;
      jobs_[checked.model].push_back({row, static_cast<int64_t>(i)});
    }
    num_rows_ += state.num_missing > 0;
    if (state.num_missing > 0) return;
    ++summary_.num_skipped;
    finish_row(row, /*skipped=*/true);
  }

  GenerationRequest request_of(const Job& job) const {
    GenerationRequest request = batch_.rows[job.row].request;
    request.count = 1;
    request.seed += static_cast<uint64_t>(job.index);
    return request;
  }

  void draw_model(size_t model) {
    const std::vector<Job>& jobs = jobs_[model];
    std::vector<GenerationRequest> requests;
    for (const Job& job : jobs) requests.push_back(request_of(job));
    for (const std::vector<size_t>& group : plan_batch(requests, options_.order)) {
      const auto max_batch = static_cast<size_t>(batch_limit(requests[group.front()]));
      const size_t num_parts = (group.size() + max_batch - 1) / max_batch;
      // As equal parts as can be: 10 pictures, at most 8 at once, are 5 and 5.
      for (size_t part = 0; part < num_parts && !ended_; ++part) {
        std::vector<Job> together;
        for (size_t i = group.size() * part / num_parts; i < group.size() * (part + 1) / num_parts;
             ++i)
          together.push_back(jobs[group[i]]);
        draw_jobs(batch_.models[model], together);
      }
    }
  }

  int64_t batch_limit(const GenerationRequest& request) const {
    if (!options_.limit_memory) return options_.max_batch;
    return std::clamp<int64_t>(kSharedPixels / (*request.width_px * *request.height_px), 1,
                               options_.max_batch);
  }

  /// A group that fails is drawn one by one, so that only what is at fault fails.
  void draw_jobs(StableDiffusionPipeline& pipeline, std::vector<Job> jobs) {
    std::erase_if(jobs, [&](const Job& job) { return states_[job.row].failed; });
    if (jobs.empty()) return;
    std::vector<GenerationRequest> requests;
    for (const Job& job : jobs) requests.push_back(request_of(job));
    std::vector<bool> delivered(jobs.size());
    std::exception_ptr of_writing;
    progress_.set_prefix(fmt::format(
        "row {}{}, {} of {} to draw: ", batch_.rows[jobs[0].row].number,
        jobs.size() > 1 ? " ..." : "", summary_.num_drawn + summary_.num_failed + 1, num_rows_));
    try {
      pipeline.generate_together(requests, context_, [&](size_t i, const Picture& picture) {
        check_files(jobs[i], picture);
        try {
          keep(jobs[i], picture);
        } catch (...) {
          of_writing = std::current_exception();
          throw;
        }
        delivered[i] = true;
      });
    } catch (const StoppedError&) {
      throw;
    } catch (...) {
      progress_.end();
      if (of_writing) std::rethrow_exception(of_writing);
      if (jobs.size() == 1) {
        fail_row(jobs.front().row, describe_failure(std::current_exception()));
        return;
      }
      std::vector<Job> rest;
      for (size_t i = 0; i < jobs.size(); ++i)
        if (!delivered[i]) rest.push_back(jobs[i]);
      for (const Job& job : rest)
        if (!ended_) draw_jobs(pipeline, {job});
    }
  }

  /// The key stands for the files' content when they were checked.
  void check_files(const Job& job, const Picture& picture) const {
    const auto compare = [](const std::string& file, const std::string& wanted,
                            const std::string& found) {
      if (found != wanted)
        throw FileError(fmt::format("'{}' was changed since the run started; run again", file));
    };
    const auto compare_records = [&](const auto& wanted, const auto& found) {
      for (size_t i = 0; i < wanted.size(); ++i)
        compare(wanted[i].file.string(), wanted[i].sha256, found.at(i).sha256);
    };
    const CheckedRow& row = batch_.rows[job.row];
    compare_records(row.loras, picture.record.loras);
    compare_records(row.experts, picture.record.experts);
    for (const auto& [file, sha256] : row.other_files) compare(file, sha256, sha256_file(file));
  }

  void keep(const Job& job, const Picture& picture) {
    const CheckedRow& row = batch_.rows[job.row];
    const std::string png =
        encode_png(picture.pixels, options_.metadata ? picture.record.png_text() : PngText{});
    const RowPicture& target = row.pictures[static_cast<size_t>(job.index)];
    write_file_atomically(folder_.path(target.file),
                          options_.redraw ? OnExist::kOverwrite : OnExist::kSkip,
                          [&](const ByteSink& sink) { sink(png); });
    RowState& state = states_[job.row];
    state.timings.push_back(picture.timings.to_json());
    if (--state.num_missing > 0) return;
    ++summary_.num_drawn;
    finish_row(job.row, /*skipped=*/false);
  }

  void finish_row(size_t row, bool skipped) {
    const CheckedRow& checked = batch_.rows[row];
    const RowResult result{.row = checked.number, .key = checked.key, .pictures = checked.pictures};
    folder_.record(result);
    report_({result, skipped, std::move(states_[row].timings)});
  }

  void fail_row(size_t row, const Failure& failure) {
    const CheckedRow& checked = batch_.rows[row];
    spdlog::error("{}: row {}: {}", checked.place, checked.number, failure.message);
    const RowResult result{.row = checked.number,
                           .key = checked.key,
                           .error = failure.message,
                           .exit_code = failure.exit_code,
                           .request = checked.request.to_json()};
    states_[row].failed = true;
    ++summary_.num_failed;
    ended_ = options_.fail_fast;
    folder_.record(result);
    report_({result, false, {}});
  }

  CheckedBatch& batch_;
  BatchFolder& folder_;
  const BatchDrawOptions& options_;
  RowProgress progress_;
  RunContext context_;
  const std::function<void(const RowReport&)>& report_;
  std::map<size_t, std::vector<Job>> jobs_;  // by model
  std::map<size_t, RowState> states_;
  int64_t num_rows_ = 0;  // that are not whole yet
  bool ended_ = false;
  BatchSummary summary_;
};

}  // namespace

CheckedBatch check_batch(const std::vector<BatchRow>& rows, const PipelineOptions& options,
                         const CancellationToken& cancellation) {
  CheckedBatch batch;
  OpenedModels models(options);
  RowKeys keys;
  for (const BatchRow& row : rows) {
    cancellation.stop_here_if_requested();
    try {
      const OpenedModels::Entry& model = models.open(row.model, batch.models);
      CheckedRequest checked_request = batch.models[*model.index].check(row.request);
      GenerationRequest& request = checked_request.request;
      const Json content = keys.content(checked_request, model.sha256, row.model);
      if (!row.has_seed) request.seed = keys.seed(content);
      CheckedRow checked{.number = row.number,
                         .place = row.place,
                         .model = *model.index,
                         .key = RowKeys::key(content, request.seed)};
      for (int64_t i = 0; i < request.count; ++i)
        checked.pictures.push_back({picture_name(row.number, checked.key, i, request.count),
                                    request.seed + static_cast<uint64_t>(i)});
      checked.request = std::move(request);
      checked.loras = std::move(checked_request.loras);
      checked.other_files = keys.file_hashes(checked.request);
      checked.experts = std::move(checked_request.experts);
      batch.rows.push_back(std::move(checked));
    } catch (...) {
      batch.problems.push_back({row.number, describe_failure(std::current_exception())});
    }
  }
  return batch;
}

BatchSummary draw_batch(CheckedBatch& batch, BatchFolder& folder, const BatchDrawOptions& options,
                        RunContext context, const std::function<void(const RowReport&)>& report) {
  return BatchDrawing(batch, folder, options, context, report).draw();
}

}  // namespace molar
