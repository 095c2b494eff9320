/// The command line as data: what the help, the completions and the manual page are written from.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "command.h"

namespace molar::cli {

struct OptionEntry {
  std::string long_name;   ///< "--steps"; of an argument without one, its own: "FILE"
  std::string short_name;  ///< "-s", or empty
  std::string value;       ///< what stands for the value, "N"; empty for flags
  std::string text;
  std::string group;
  bool repeatable = false;

  bool is_positional() const { return !long_name.starts_with('-'); }
};

struct CommandEntry {
  std::string name;  ///< "train lora"
  std::string summary;
  CommandHelp help;
  std::vector<OptionEntry> options;  ///< in the order of their groups, without -h and --help

  /// Throws an internal error where there is none.
  const OptionEntry& option(const std::string& long_name) const;
};

/// "train", which has commands of its own and does nothing alone.
struct CommandGroup {
  std::string name;
  std::string summary;
};

struct OptionTree {
  std::string summary;
  std::vector<CommandEntry> commands;
  std::vector<CommandGroup> groups;
  std::vector<OptionEntry> program_options;  ///< of `molar` without a command
  std::vector<OptionEntry> help_options;     ///< -h and --help, of every command
};

OptionTree describe_program(const CLI::App& program, const std::vector<Command>& commands);

/// What can stand in a value's place.
struct ValueChoices {
  enum class Files { kNone, kAny, kFolders, kSafetensors };
  Files files = Files::kNone;
  std::vector<std::string> words;
};

/// Of an option's `value`: "FILE", "DIR|auto", "SAMPLER", "kohya|diffusers". What it does not know
/// ("N", "TEXT") is anything.
ValueChoices value_choices(const std::string& value);

}  // namespace molar::cli
