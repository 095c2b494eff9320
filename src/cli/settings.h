/// Where an option's value comes from: flag > environment > config file > built in.
/// With `--from`, the picture's record stands between flag and environment for what makes the
/// picture.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace molar::cli {

/// "--cfg-scale" -> "MOLAR_CFG_SCALE".
std::string environment_name(const std::string& long_name);

/// Gives `option` its value, read as a flag's would be. Throws what reading it throws, with
/// `origin` ("molar.toml:3") in front, if it is not empty.
void set_option(CLI::Option& option, const std::vector<std::string>& values,
                const std::string& origin);

/// Sets every option of `command` that was not given as a flag from MOLAR_<OPTION>, where that is
/// set and not empty. `held` names options ("cfg-scale") that a record decides. Throws ConfigError.
void apply_environment(CLI::App& command, const std::set<std::string>& held);

/// Sets what is still unset from a TOML file: keys before any section and keys in [<command>]
/// ([train.lora] for `train lora`) are the command's; sections of the program's other commands are
/// checked and left alone. Throws ConfigError: no such file, no TOML, unknown keys or sections
/// (file, line, nearest name).
void apply_config_file(CLI::App& command, const std::filesystem::path& path,
                       const std::set<std::string>& held);

/// Sentences about MOLAR_* variables that belong to no option of any command.
std::vector<std::string> unknown_environment(const CLI::App& program);

/// Long names without dashes of every option of `command`.
std::vector<std::string> option_names(const CLI::App& command);

}  // namespace molar::cli
