#include "doctor_command.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <fstream>
#include <thread>

#include "machine_options.h"
#include "molar/core/device.h"
#include "molar/core/error.h"
#include "molar/core/matmul_speed.h"
#include "molar/core/version.h"
#include "molar/io/json_config.h"
#include "molar/io/sha256_manifest.h"
#include "resources.h"
#include "result_stream.h"
#include "text.h"

namespace molar::cli {
namespace {

/// Of float32's speed: slower than this, a number type is emulated.
constexpr double kRealShare = 0.5;

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name"))
      return line.substr(std::min(line.find(':') + 2, line.size()));
  return "unknown processor";
}

struct TypeSpeed {
  at::ScalarType dtype;
  double gflops = 0;
  bool is_real = false;
};

struct DeviceReport {
  at::Device device;
  at::ScalarType automatic;  ///< what --dtype auto is there
  std::vector<TypeSpeed> types;
};

DeviceReport measure(at::Device device) {
  DeviceReport report{device, parse_dtype("auto", device), {}};
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16})
    report.types.push_back({dtype, matmul_gflops(device, dtype)});
  for (TypeSpeed& type : report.types)
    type.is_real = type.gflops >= kRealShare * report.types.front().gflops;
  return report;
}

std::vector<at::Device> devices() {
  std::vector<at::Device> found = {at::Device(at::kCPU)};
  for (int64_t i = 0; i < num_cuda_devices(); ++i)
    found.emplace_back(at::kCUDA, static_cast<at::DeviceIndex>(i));
  return found;
}

struct BundledModelReport {
  std::optional<std::filesystem::path> path;
  ManifestCheck files;

  bool is_damaged() const { return !files.problems.empty(); }
};

BundledModelReport check_bundled_model() {
  BundledModelReport report{.path = bundled_model(), .files = {}};
  if (report.path) report.files = check_sha256_manifest(*report.path);
  return report;
}

Json to_json(const std::vector<DeviceReport>& reports, const BundledModelReport& model) {
  Json json = {{"schema", 1},
               {"molar", molar_version()},
               {"git", git_version()},
               {"torch", torch_version()},
               {"cpu",
                {{"name", processor_name()},
                 {"cores", std::thread::hardware_concurrency()},
                 {"threads", at::get_num_threads()},
                 {"capability", at::get_cpu_capability()}}},
               {"devices", Json::array()}};
  for (const DeviceReport& report : reports) {
    Json device = {{"device", report.device.str()},
                   {"auto", dtype_option(report.automatic)},
                   {"types", Json::array()}};
    for (const TypeSpeed& type : report.types)
      device["types"].push_back({{"dtype", dtype_option(type.dtype)},
                                 {"gflops", std::round(type.gflops * 10) / 10},
                                 {"real", type.is_real}});
    json["devices"].push_back(std::move(device));
  }
  json["bundled_model"] = nullptr;
  if (model.path) {
    Json problems = Json::array();
    for (const ManifestProblem& problem : model.files.problems)
      problems.push_back({{"file", problem.file}, {"problem", problem.what}});
    json["bundled_model"] = {{"path", model.path->string()},
                             {"files", model.files.num_files},
                             {"problems", std::move(problems)}};
  }
  const std::filesystem::path vocabulary = clip_vocabulary();
  json["clip_vocabulary"] = vocabulary.empty() ? Json() : Json(vocabulary.string());
  return json;
}

std::string to_text(const std::vector<DeviceReport>& reports, const BundledModelReport& model) {
  std::string text =
      fmt::format("molar {} (git {}, libtorch {})\n", molar_version(),
                  git_version().empty() ? "unknown" : git_version(), torch_version());
  text += fmt::format("processor: {}, {} cores, {} threads, {}\n", processor_name(),
                      std::thread::hardware_concurrency(), at::get_num_threads(),
                      at::get_cpu_capability());
  for (const DeviceReport& report : reports) {
    std::vector<std::string> types;
    for (const TypeSpeed& type : report.types)
      types.push_back(fmt::format("{} {:.1f} GFLOP/s{}", dtype_option(type.dtype), type.gflops,
                                  type.is_real ? "" : " (emulated)"));
    text += fmt::format("{}: {}; --dtype auto is {}\n", report.device.str(), fmt::join(types, ", "),
                        dtype_option(report.automatic));
  }
  if (reports.size() == 1) text += "cuda: this libtorch sees no device\n";
  if (!model.path) {
    text += "bundled model: none beside the program\n";
  } else {
    text += fmt::format(
        "bundled model: {}, {} of {} files as they should be\n", model.path->string(),
        model.files.num_files - std::ssize(model.files.problems), model.files.num_files);
    for (const ManifestProblem& problem : model.files.problems)
      text += fmt::format("  {}: {}\n", problem.file, problem.what);
  }
  const std::filesystem::path vocabulary = clip_vocabulary();
  return text + fmt::format("CLIP's vocabulary, for single-file checkpoints: {}\n",
                            vocabulary.empty() ? "not there; scripts/quickstart fetches it, or "
                                                 "give --tokenizer DIR"
                                               : vocabulary.string());
}

}  // namespace

CLI::App* register_doctor(CLI::App& program, DoctorOptions& options) {
  CLI::App* app = program.add_subcommand("doctor", "Examine this machine and the bundled model");
  register_thread_option(*app, options.threads);
  register_run_options(*app, options.run);
  return app;
}

CommandHelp doctor_help() {
  return {.usage = "[--json]",
          .examples = {"molar doctor", "molar doctor --json | jq .devices"},
          .common_options = {"--threads", "--json"}};
}

void run_doctor(const DoctorOptions& options) {
  set_threads(options.threads);
  std::vector<DeviceReport> reports;
  for (const at::Device device : devices()) reports.push_back(measure(device));
  const BundledModelReport model = check_bundled_model();
  if (options.run.json)
    write_result_json(to_json(reports, model));
  else
    write_result(printable(to_text(reports, model)));
  if (model.is_damaged())
    throw FileError(fmt::format(
        "the bundled model '{}' is damaged: {} of {} files; wanted those of this version's "
        "sources",
        model.path->string(), model.files.problems.size(), model.files.num_files));
}

}  // namespace molar::cli
