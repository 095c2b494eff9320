/// `molar doctor`: what this machine and this installation are, and whether the bundled model is
/// whole.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>

#include "command.h"
#include "run_options.h"

namespace molar::cli {

struct DoctorOptions {
  std::optional<int64_t> threads;
  RunOptions run;
};

/// `options` must outlive the parse.
CLI::App* register_doctor(CLI::App& program, DoctorOptions& options);
CommandHelp doctor_help();

/// Prints what it finds. Throws FileError where the bundled model is damaged, after that.
void run_doctor(const DoctorOptions& options);

}  // namespace molar::cli
