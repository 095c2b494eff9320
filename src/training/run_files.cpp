#include "run_files.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <charconv>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "molar/training/lora_training.h"
#include "run_description.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr const char* kStepKey = "molar.step";

int64_t read_step(const SafetensorsFile& file) {
  int64_t step = -1;
  if (const auto found = file.metadata().find(kStepKey); found != file.metadata().end())
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), step);
  if (step < 0)
    throw FileError(fmt::format("'{}' does not say its step ({})", file.path().string(), kStepKey));
  return step;
}

}  // namespace

fs::path checkpoint_path(const fs::path& output) {
  return fs::path(output).replace_extension(".checkpoint.safetensors");
}

RunFiles::RunFiles(const fs::path& output, Json description, bool start_anew)
    : output_(output),
      checkpoint_(checkpoint_path(output)),
      description_(std::move(description)),
      start_anew_(start_anew) {
  if (finished())
    require_same_run(description_, SafetensorsFile::open(output_).metadata(), output_);
}

bool RunFiles::finished() const { return !start_anew_ && fs::exists(output_); }

std::optional<UnfinishedRun> RunFiles::unfinished() const {
  if (start_anew_ || !fs::exists(checkpoint_)) return std::nullopt;
  const SafetensorsFile file = SafetensorsFile::open(checkpoint_);
  require_same_run(description_, file.metadata(), checkpoint_);
  UnfinishedRun run{file.state_dict(), read_step(file)};
  spdlog::info("going on after step {} of '{}'", run.num_steps_done, checkpoint_.string());
  return run;
}

void RunFiles::write_checkpoint(const UnfinishedRun& run) const {
  write_safetensors(
      checkpoint_, OnExist::kOverwrite, run.state,
      {{kDescriptionKey, description_.dump()}, {kStepKey, std::to_string(run.num_steps_done)}});
}

int64_t RunFiles::num_steps_taken() const { return read_step(SafetensorsFile::open(output_)); }

void RunFiles::write_result(LoraFileContent content, int64_t num_steps) const {
  content.metadata[kStepKey] = std::to_string(num_steps);
  write_safetensors(output_, OnExist::kOverwrite, content.tensors, content.metadata);
  remove_checkpoint();
}

void RunFiles::remove_checkpoint() const { fs::remove(checkpoint_); }

}  // namespace molar
