#include "machine_options.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <thread>

#include "molar/core/error.h"
#include "molar/core/process.h"
#include "molar/core/vector_math.h"
#include "option_binder.h"

namespace molar::cli {
namespace {

constexpr int64_t kMaxThreads = 1024;

}  // namespace

ProgressStyle MachineOptions::progress_style(bool quiet) const {
  if (quiet && !progress) return ProgressStyle::kNone;
  return progress.value_or(ProgressStyle::kAuto);
}

void register_machine_options(CLI::App& app, MachineOptions& options) {
  OptionBinder machine(app, "Machine");
  machine.value("--device", options.device, "auto|cpu|cuda[:n]", "Where to compute (auto)");
  register_thread_option(app, options.threads);
  register_progress_option(app, options.progress);
}

void register_progress_option(CLI::App& app, std::optional<ProgressStyle>& progress) {
  OptionBinder(app, "Machine")
      .value("--progress", progress, "auto|bar|plain|none", "How progress is shown (auto)");
}

void register_thread_option(CLI::App& app, std::optional<int64_t>& threads) {
  OptionBinder(app, "Machine").value("-t,--threads", threads, "N", "CPU threads (all cores)");
}

bool starts_anew(bool resume, bool no_resume) {
  if (resume && no_resume)
    throw ConfigError("--resume and --no-resume exclude each other; give one of them");
  return no_resume;
}

void set_threads(const std::optional<int64_t>& threads) {
  resolve_vector_math();
  keep_freed_memory();
  if (!threads) return;
  if (*threads < 1 || *threads > kMaxThreads)
    throw ConfigError(fmt::format("--threads {}: wanted 1 to {}; this machine has {} cores",
                                  *threads, kMaxThreads, std::thread::hardware_concurrency()));
  at::set_num_threads(static_cast<int>(*threads));
}

}  // namespace molar::cli
