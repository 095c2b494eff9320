#include "completion_scripts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <string_view>

namespace molar::cli {
namespace {

using Files = ValueChoices::Files;

/// What may follow "molar", or "molar GROUP": name -> summary, in the order of the help.
struct NextWord {
  std::string name, summary;
  const CommandEntry* command = nullptr;  ///< null: a group
};
std::vector<NextWord> next_words(const OptionTree& tree, const std::string& group) {
  std::vector<NextWord> words;
  for (const CommandEntry& command : tree.commands) {
    const size_t space = command.name.find(' ');
    const std::string first = command.name.substr(0, space);
    if (group.empty() && space == std::string::npos)
      words.push_back({command.name, command.summary, &command});
    else if (first == group)
      words.push_back({command.name.substr(space + 1), command.summary, &command});
  }
  if (group.empty())
    for (const CommandGroup& one : tree.groups) words.push_back({one.name, one.summary, nullptr});
  return words;
}

std::vector<std::string> names_of(const std::vector<NextWord>& words) {
  std::vector<std::string> names;
  for (const NextWord& word : words) names.push_back(word.name);
  return names;
}

/// A command's own options and -h, --help.
std::vector<OptionEntry> all_options(const OptionTree& tree, const CommandEntry& command) {
  std::vector<OptionEntry> options = command.options;
  options.insert(options.end(), tree.help_options.begin(), tree.help_options.end());
  return options;
}

std::vector<std::string> spellings(const OptionEntry& option) {
  if (option.short_name.empty()) return {option.long_name};
  return {option.short_name, option.long_name};
}

/// `text` between single quotes of a POSIX shell or of fish, which know other escapes.
std::string quoted(std::string_view text, std::string_view quote) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'')
      out += quote;
    else
      out += c;
  }
  return out + "'";
}
std::string posix_quoted(std::string_view text) { return quoted(text, "'\\''"); }

std::string escaped(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// ---- bash ------------------------------------------------------------------------------------

constexpr const char* kBashHead =
    R"(# bash completion for molar, written by `molar completion bash`.
# Source it, or save it as ~/.local/share/bash-completion/completions/molar

# _molar_complete FILES WORD...: what begins as the current word does.
_molar_complete() {
  local files=$1
  shift
  mapfile -t COMPREPLY < <(compgen -W "$*" -- "$current"
    case $files in
      any) compgen -f -- "$current" ;;
      folders) compgen -d -- "$current" ;;
      safetensors) compgen -d -- "$current"; compgen -f -X '!*.safetensors' -- "$current" ;;
    esac)
  # Not where no completion is going on, as in a test.
  [ "$files" = none ] || compopt -o filenames 2>/dev/null
}

_molar() {
  local current=${COMP_WORDS[COMP_CWORD]} option='' command=${COMP_WORDS[1]} first=2
  COMPREPLY=()
)";

/// Middle: from the words' end to the option that is being given its value.
constexpr const char* kBashOption = R"(
  # "--name=value" is three words here: '=' is in COMP_WORDBREAKS.
  option=${COMP_WORDS[COMP_CWORD - 1]}
  if [ "$current" = = ]; then
    current=''
  elif [ "$option" = = ]; then
    option=${COMP_WORDS[COMP_CWORD - 2]}
  fi
)";

std::string_view bash_files(Files files) {
  switch (files) {
    case Files::kAny:
      return "any";
    case Files::kFolders:
      return "folders";
    case Files::kSafetensors:
      return "safetensors";
    case Files::kNone:
      break;
  }
  return "none";
}

std::string bash_call(const ValueChoices& choices) {
  return fmt::format("_molar_complete {}{}{}", bash_files(choices.files),
                     choices.words.empty() ? "" : " ", fmt::join(choices.words, " "));
}

/// Options that take the same values share a line.
std::string bash_values(const CommandEntry& command) {
  std::map<std::string, std::vector<std::string>> patterns;  // call -> spellings
  for (const OptionEntry& option : command.options) {
    if (option.is_positional() || option.value.empty()) continue;
    for (const std::string& name : spellings(option))
      patterns[bash_call(value_choices(option.value))].push_back(name);
  }
  std::string text;
  for (const auto& [call, names] : patterns)
    text += fmt::format("        {}) {}; return ;;\n", fmt::join(names, " | "), call);
  return text;
}

/// What stands for no option: files of an argument, else the options.
std::string bash_words(const OptionTree& tree, const CommandEntry& command) {
  std::vector<std::string> names;
  std::string argument;
  for (const OptionEntry& option : all_options(tree, command)) {
    if (option.is_positional())
      argument = bash_call(value_choices(option.value));
    else
      names.push_back(option.long_name);
  }
  const std::string options = fmt::format("_molar_complete none {}", fmt::join(names, " "));
  if (argument.empty()) return fmt::format("      {}\n", options);
  return fmt::format("      case $current in\n        -*) {} ;;\n        *) {} ;;\n      esac\n",
                     options, argument);
}

// ---- zsh -------------------------------------------------------------------------------------

std::string zsh_action(const ValueChoices& choices) {
  std::vector<std::string> actions;
  if (!choices.words.empty()) actions.push_back(fmt::format("({})", fmt::join(choices.words, " ")));
  switch (choices.files) {
    case Files::kAny:
      actions.emplace_back("_files");
      break;
    case Files::kFolders:
      actions.emplace_back("_files -/");
      break;
    case Files::kSafetensors:
      actions.emplace_back("_files -g \"*.safetensors\"");
      break;
    case Files::kNone:
      break;
  }
  if (actions.empty()) return " ";
  if (actions.size() == 1) return actions.front();
  // Only _alternative takes a list and files at once. The space keeps _arguments' own options away.
  return fmt::format(" _alternative \"words\\:name\\:{}\" \"files\\:file\\:{}\"", actions[0],
                     actions[1]);
}

std::string zsh_spec(const OptionEntry& option) {
  const std::string value = option.value.empty()
                                ? ""
                                : fmt::format(":{}:{}", escaped(option.value, ":"),
                                              zsh_action(value_choices(option.value)));
  if (option.is_positional()) return posix_quoted("*" + value);
  const std::string text = fmt::format("[{}]{}", escaped(option.text, "[]"), value);
  const bool has_value = !option.value.empty();
  const std::string star = option.repeatable && has_value ? "*" : "";
  const std::string long_name = option.long_name + (has_value ? "=" : "");
  if (option.short_name.empty()) return posix_quoted(star + long_name + text);
  const std::string names =
      fmt::format("{{{}{},{}}}", option.short_name, has_value ? "+" : "", long_name);
  const std::string others =
      star.empty() ? fmt::format("({} {})", option.short_name, option.long_name) : star;
  return posix_quoted(others) + names + posix_quoted(text);
}

std::string zsh_names(const std::vector<NextWord>& words) {
  std::string text;
  for (const NextWord& word : words)
    text += " " + posix_quoted(word.name + ":" + escaped(word.summary, ":"));
  return text;
}

/// The cases of one level: the commands whose names are `group` and a word, or a word.
std::string zsh_commands(const OptionTree& tree, const std::string& group,
                         const std::string& indent) {
  const std::vector<NextWord> words = next_words(tree, group);
  std::string text = fmt::format(
      "{0}if (( CURRENT == 2 )); then\n{0}  names=({1} )\n{0}  _describe command names\n"
      "{0}  return\n{0}fi\n{0}shift words\n{0}(( CURRENT-- ))\n{0}case $words[1] in\n",
      indent, zsh_names(words));
  for (const NextWord& word : words) {
    text += fmt::format("{0}  {1})\n", indent, word.name);
    if (word.command == nullptr) {
      text += zsh_commands(tree, word.name, indent + "    ");
    } else {
      text += indent + "    _arguments -s -S";
      for (const OptionEntry& option : all_options(tree, *word.command))
        text += fmt::format(" \\\n{}      {}", indent, zsh_spec(option));
      text += "\n";
    }
    text += indent + "    ;;\n";
  }
  return text + indent + "esac\n";
}

// ---- fish ------------------------------------------------------------------------------------

std::string fish_quoted(std::string_view text) { return quoted(escaped(text, "\\"), "\\'"); }

constexpr const char* kFishHead =
    R"(# fish completion for molar, written by `molar completion fish`.
# Source it, or save it as ~/.config/fish/completions/molar.fish

# Whether the words behind molar, up to the one that is typed, begin with these: __molar_is train lora
function __molar_is
    string match -q -- "$argv *" (string join ' ' -- (commandline -opc)[2..] '')
end

# Whether they are these and no more: what follows is a command.
function __molar_ends
    test (string join ' ' -- (commandline -opc)[2..] '') = (string join ' ' -- $argv '')
end

complete -c molar -f
)";

std::string fish_value(const std::string& value) {
  const ValueChoices choices = value_choices(value);
  std::vector<std::string> words = choices.words;
  switch (choices.files) {
    case Files::kAny:
      return words.empty() ? " -r -F" : fmt::format(" -r -F -a '{}'", fmt::join(words, " "));
    case Files::kFolders:
      words.emplace_back("(__fish_complete_directories)");
      break;
    case Files::kSafetensors:
      words.emplace_back("(__fish_complete_suffix .safetensors)");
      break;
    case Files::kNone:
      break;
  }
  return words.empty() ? " -x" : fmt::format(" -x -a '{}'", fmt::join(words, " "));
}

std::string fish_option(const std::string& condition, const OptionEntry& option) {
  std::string text = fmt::format("complete -c molar -n '{}'", condition);
  if (option.is_positional()) {
    std::string value = fish_value(option.value);
    if (const size_t files = value.find(" -r -F"); files == 0) value.replace(0, 6, " -F");
    if (value.starts_with(" -x")) value.erase(0, 3);
    return text + value + "\n";
  }
  if (!option.short_name.empty()) text += " -s " + option.short_name.substr(1);
  if (option.long_name.starts_with("--"))
    text += " -l " + option.long_name.substr(2);
  else
    text += " -s " + option.long_name.substr(1);  // -h is all that help has
  if (!option.value.empty()) text += fish_value(option.value);
  return fmt::format("{} -d {}\n", text, fish_quoted(option.text));
}

}  // namespace

std::string bash_completion(const OptionTree& tree) {
  std::string text = kBashHead;
  std::vector<std::string> first = names_of(next_words(tree, ""));
  for (const auto& options : {tree.program_options, tree.help_options})
    for (const OptionEntry& option : options) first.push_back(option.long_name);
  text += fmt::format(
      "  if [ \"$COMP_CWORD\" = 1 ]; then\n    _molar_complete none {}\n    return\n  fi\n",
      fmt::join(first, " "));
  for (const CommandGroup& group : tree.groups)
    text += fmt::format(
        "  if [ \"$command\" = {0} ]; then\n    if [ \"$COMP_CWORD\" = 2 ]; then\n"
        "      _molar_complete none {1}\n      return\n    fi\n    command+=\" "
        "${{COMP_WORDS[2]}}\" "
        "first=3\n  fi\n",
        group.name, fmt::join(names_of(next_words(tree, group.name)), " "));
  text += "  [ \"$COMP_CWORD\" -ge \"$first\" ] || return\n";
  text += kBashOption;
  text += "  case $command in\n";
  for (const CommandEntry& command : tree.commands) {
    text += fmt::format("    '{}')\n", command.name);
    if (const std::string values = bash_values(command); !values.empty())
      text += fmt::format("      case $option in\n{}      esac\n", values);
    text += bash_words(tree, command) + "      ;;\n";
  }
  return text + "  esac\n}\n\ncomplete -F _molar molar\n";
}

std::string zsh_completion(const OptionTree& tree) {
  return "#compdef molar\n"
         "# zsh completion for molar, written by `molar completion zsh`.\n"
         "# Save it as _molar in a folder of $fpath, or source it after compinit.\n\n"
         "_molar() {\n  local -a names\n" +
         zsh_commands(tree, "", "  ") +
         "}\n\n"
         "if [ \"$funcstack[1]\" = _molar ]; then\n  _molar \"$@\"\nelse\n  compdef _molar "
         "molar\nfi\n";
}

std::string fish_completion(const OptionTree& tree) {
  std::string text = kFishHead;
  std::vector<std::string> groups = {""};
  for (const CommandGroup& group : tree.groups) groups.push_back(group.name);
  for (const std::string& group : groups)
    for (const NextWord& word : next_words(tree, group))
      text += fmt::format("complete -c molar -n '__molar_ends {}' -a {} -d {}\n", group, word.name,
                          fish_quoted(word.summary));
  for (const auto& options : {tree.program_options, tree.help_options})
    for (const OptionEntry& option : options) text += fish_option("__molar_ends", option);
  for (const CommandEntry& command : tree.commands)
    for (const OptionEntry& option : all_options(tree, command))
      text += fish_option("__molar_is " + command.name, option);
  return text;
}

}  // namespace molar::cli
