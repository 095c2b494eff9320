#include "inspect_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "inspection.h"
#include "molar/core/error.h"
#include "result_stream.h"
#include "text.h"

namespace molar::cli {

CLI::App* register_inspect(CLI::App& program, InspectOptions& options) {
  CLI::App* app = program.add_subcommand("inspect", "Describe models, LoRA files and pictures");
  app->add_option("FILE", options.files, "Model file or folder, LoRA file or folder, or picture")
      ->group("What")
      ->configurable(false);
  register_run_options(*app, options.run);
  return app;
}

CommandHelp inspect_help() {
  return {.usage = "FILE... [--json]",
          .examples = {"molar inspect dog.png", "molar inspect --json loras/*.safetensors"},
          .common_options = {"FILE", "--json"}};
}

void run_inspect(const InspectOptions& options) {
  if (options.files.empty()) throw ConfigError("no file; wanted 'molar inspect FILE...'");
  std::optional<ExitCode> first_failure;
  size_t num_failed = 0;
  for (const std::string& file : options.files) {
    try {
      const Inspection inspection = inspect_file(file);
      write_result(options.run.json ? inspection.to_json_line() : printable(inspection.to_text()));
    } catch (const Error& error) {
      if (options.files.size() == 1) throw;
      spdlog::error(error.what());
      if (!first_failure) first_failure = error.exit_code();
      ++num_failed;
    }
  }
  if (first_failure)
    throw Error(
        fmt::format("{} of {} files could not be described", num_failed, options.files.size()),
        *first_failure);
}

}  // namespace molar::cli
