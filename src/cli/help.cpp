#include "help.h"

#include <fmt/format.h>

#include <sstream>

namespace molar::cli {
namespace {

constexpr size_t kColumn = 34, kLineWidth = 100, kNumExamples = 2;

/// `text` in lines of at most kLineWidth, each but the first indented to kColumn.
std::string wrapped(const std::string& text) {
  std::string out, line;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (!line.empty() && kColumn + line.size() + 1 + word.size() > kLineWidth) {
      out += line + "\n" + std::string(kColumn, ' ');
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return out + line;
}

std::string option_line(const OptionEntry& option) {
  std::string line = "  ";
  if (!option.short_name.empty()) line += option.short_name + ", ";
  line += option.long_name;
  if (!option.value.empty() && !option.is_positional()) line += " " + option.value;
  line += line.size() + 2 <= kColumn ? std::string(kColumn - line.size(), ' ')
                                     : "\n" + std::string(kColumn, ' ');
  return line + wrapped(option.text) + "\n";
}

std::string heading(const CommandEntry& command) {
  std::string text = command.summary + ".\n\n";
  for (const std::string& example : command.help.examples) text += "  " + example + "\n";
  return text + fmt::format("\nUsage: molar {} {}\n", command.name, command.help.usage);
}

}  // namespace

std::string program_help(const OptionTree& tree) {
  std::string text = tree.summary + "\n\n";
  for (size_t i = 0; i < kNumExamples && i < tree.commands.size(); ++i)
    text += "  " + tree.commands[i].help.examples.front() + "\n";
  text += "\nCommands:\n";
  for (const CommandEntry& command : tree.commands)
    text += fmt::format("  {:<16}{}\n", command.name, command.summary);
  return text +
         "\nmolar COMMAND -h lists a command's common options, --help all of them; molar "
         "--version.\n";
}

std::string short_help(const CommandEntry& command) {
  std::string text = heading(command);
  for (const std::string& name : command.help.common_options)
    text += option_line(command.option(name));
  return text + fmt::format("\nAll options: molar {} --help\n", command.name);
}

std::string full_help(const CommandEntry& command) {
  std::string text = heading(command), group;
  bool has_settings = false;
  for (const OptionEntry& option : command.options) {
    if (option.group != group) text += fmt::format("\n{}:\n", option.group);
    group = option.group;
    text += option_line(option);
    has_settings = has_settings || option.long_name == "--config";
  }
  if (!has_settings) return text;
  return text +
         "\nEach option can also be set by an environment variable (--cfg-scale: MOLAR_CFG_SCALE) "
         "or in a\n"
         "--config file (cfg-scale = 7.5). Flags win over the environment, the environment over "
         "the file.\n";
}

}  // namespace molar::cli
