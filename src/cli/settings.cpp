#include "settings.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <iterator>

#include "command.h"
#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "molar/io/file.h"
#include "toml_config.h"
#include "value_parsing.h"

namespace molar::cli {
namespace {

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr const char* kEnvironmentPrefix = "MOLAR_";
/// Read by scripts/quickstart and scripts/test, not by the program.
constexpr const char* kScriptVariables[] = {"MOLAR_TORCH"};

bool is_flag(const CLI::Option& option) { return option.get_expected_min() == 0; }

/// Only from the command line: help, and what names the other sources.
bool command_line_only(const CLI::Option& option) { return !option.get_configurable(); }

/// The option that a key of a config file names; a config file cannot name another one.
CLI::Option* find_option(const CLI::App& command, const std::string& name) {
  if (name == "config") return nullptr;
  for (CLI::Option* option : const_cast<CLI::App&>(command).get_options())
    if (option->check_lname(name) && !command_line_only(*option)) return option;
  return nullptr;
}

/// Calls `visit` for every command at or below `app` that has work of its own.
template <typename Visit>
void for_each_command(const CLI::App& app, const Visit& visit) {
  const auto below = app.get_subcommands([](const CLI::App*) { return true; });
  if (below.empty()) visit(app);
  for (const CLI::App* command : below) for_each_command(*command, visit);
}

const CLI::App& program_of(const CLI::App& command) {
  return command.get_parent() == nullptr ? command : program_of(*command.get_parent());
}

/// The section of a command: "generate", "train.lora".
std::string section_name(const CLI::App& command) {
  std::string name = command_name(command);
  std::ranges::replace(name, ' ', '.');
  return name;
}

/// A file of options that cannot be read is a mistake of the command line.
std::string read_config(const std::filesystem::path& path) try {
  return read_file(path, kMaxConfigBytes);
} catch (const FileError& error) {
  throw ConfigError(fmt::format("--config: {}", error.what()));
}

}  // namespace

void set_option(CLI::Option& option, const std::vector<std::string>& values,
                const std::string& origin) {
  try {
    if (is_flag(option)) {
      if (values.size() != 1)
        throw ConfigError(option.get_name() + ": wanted true or false, found a list");
      option.add_result(parse_value<bool>(option.get_name(), values.front()) ? "true" : "false");
    } else {
      if (values.size() > 1 && option.get_items_expected_max() == 1)
        throw ConfigError(option.get_name() + ": wanted one value, found a list");
      if (values.empty()) return;
      for (const std::string& value : values) option.add_result(value);
    }
    option.run_callback();
  } catch (const Error& error) {
    const std::string prefix = origin.empty() ? "" : origin + ": ";
    throw Error(prefix + error.what(), error.exit_code());
  }
}

std::string environment_name(const std::string& long_name) {
  std::string name = long_name.substr(long_name.find_first_not_of('-'));
  for (char& c : name)
    c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return kEnvironmentPrefix + name;
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back(name);
  return names;
}

void apply_environment(CLI::App& command, const std::set<std::string>& held) {
  for (CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || option->count() > 0 || command_line_only(*option)) continue;
    const std::string& name = option->get_lnames().front();
    const std::string variable = environment_name(name);
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr || *value == '\0' || held.contains(name)) continue;
    set_option(*option, {value}, "environment variable " + variable);
  }
}

void apply_config_file(CLI::App& command, const std::filesystem::path& path,
                       const std::set<std::string>& held) {
  for (const ConfigEntry& entry : parse_toml(read_config(path), path.string())) {
    const std::string origin = fmt::format("{}:{}", path.string(), entry.line);
    const CLI::App* owner = &command;
    if (!entry.section.empty() && entry.section != section_name(command)) {
      owner = nullptr;
      for_each_command(program_of(command), [&](const CLI::App& other) {
        if (section_name(other) == entry.section) owner = &other;
      });
      if (owner == nullptr)
        throw ConfigError(fmt::format("{}: unknown section [{}]", origin, entry.section));
    }
    CLI::Option* option = find_option(*owner, entry.key);
    if (option == nullptr)
      throw ConfigError(fmt::format("{}: unknown key '{}'{}", origin, entry.key,
                                    suggestion(entry.key, option_names(*owner))));
    if (owner == &command && option->count() == 0 && !held.contains(entry.key))
      set_option(*option, entry.values, origin);
  }
}

std::vector<std::string> unknown_environment(const CLI::App& program) {
  std::vector<std::string> known(std::begin(kScriptVariables), std::end(kScriptVariables));
  for_each_command(program, [&](const CLI::App& command) {
    for (const CLI::Option* option : command.get_options())
      if (!command_line_only(*option))
        for (const std::string& name : option->get_lnames())
          known.push_back(environment_name(name));
  });
  std::vector<std::string> messages;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view entry(*variable);
    const std::string name(entry.substr(0, entry.find('=')));
    if (!name.starts_with(kEnvironmentPrefix) ||
        std::find(known.begin(), known.end(), name) != known.end())
      continue;
    messages.push_back(fmt::format("environment variable {} belongs to no option{}", name,
                                   suggestion(name, known)));
  }
  return messages;
}

}  // namespace molar::cli
