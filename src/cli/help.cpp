#include "help.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace molar::cli {
namespace {

constexpr size_t kColumn = 34, kLineWidth = 100;

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

std::string option_line(const CLI::Option& option) {
  std::string names;
  if (!option.get_snames().empty()) names = "-" + option.get_snames().front() + ", ";
  if (!option.get_lnames().empty()) names += "--" + option.get_lnames().front();
  if (names.ends_with(", ")) names.resize(names.size() - 2);
  if (names.empty()) names = option.get_name(/*positional=*/true);
  // Flags have no value; the first name of a positional is its value's already.
  if (option.get_expected_min() > 0 && !option.get_positional() && !option.get_type_name().empty())
    names += " " + option.get_type_name();
  std::string line = "  " + names;
  line += line.size() + 2 <= kColumn ? std::string(kColumn - line.size(), ' ')
                                     : "\n" + std::string(kColumn, ' ');
  return line + wrapped(option.get_description()) + "\n";
}

std::string heading(const Command& command) {
  std::string text = command.app->get_description() + ".\n\n";
  for (const std::string& example : command.help.examples) text += "  " + example + "\n";
  return text +
         fmt::format("\nUsage: molar {} {}\n", command_name(*command.app), command.help.usage);
}

}  // namespace

std::string command_name(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  const bool is_top = parent == nullptr || parent->get_parent() == nullptr;
  return is_top ? app.get_name() : command_name(*parent) + " " + app.get_name();
}

std::string program_help(const std::vector<Command>& commands) {
  std::string text =
      "molar draws pictures with Stable Diffusion, LoRA and merged LoRAs, offline.\n\n";
  for (const Command& command : commands)
    if (!command.help.examples.empty()) text += "  " + command.help.examples.front() + "\n";
  text += "\nCommands:\n";
  for (const Command& command : commands)
    text += fmt::format("  {:<12}{}\n", command_name(*command.app), command.app->get_description());
  return text +
         "\nmolar COMMAND -h lists a command's common options, --help all of them; molar "
         "--version.\n";
}

std::string short_help(const Command& command) {
  std::string text = heading(command);
  for (const std::string& name : command.help.common_options)
    text += option_line(*command.app->get_option(name));
  return text + fmt::format("\nAll options: molar {} --help\n", command_name(*command.app));
}

std::string full_help(const Command& command) {
  std::string text = heading(command);
  std::vector<std::string> groups;
  for (const CLI::Option* option : command.app->get_options()) {
    if (option == command.app->get_help_ptr() || option == command.app->get_help_all_ptr())
      continue;
    if (std::find(groups.begin(), groups.end(), option->get_group()) == groups.end())
      groups.push_back(option->get_group());
  }
  for (const std::string& group : groups) {
    text += "\n" + group + ":\n";
    for (const CLI::Option* option : command.app->get_options())
      if (option->get_group() == group) text += option_line(*option);
  }
  return text +
         "\nEach option can also be set by an environment variable (--cfg-scale: MOLAR_CFG_SCALE) "
         "or in a\n"
         "--config file (cfg-scale = 7.5). Flags win over the environment, the environment over "
         "the file.\n";
}

}  // namespace molar::cli
