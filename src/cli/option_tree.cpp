#include "option_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>

#include "molar/adapters/merge/merge_method.h"
#include "molar/core/error.h"
#include "molar/schedulers/scheduler.h"
#include "molar/training/lora_training_options.h"

namespace molar::cli {
namespace {

OptionEntry describe(const CLI::Option& option) {
  OptionEntry entry{.text = option.get_description(), .group = option.get_group()};
  if (!option.get_snames().empty()) entry.short_name = "-" + option.get_snames().front();
  if (!option.get_lnames().empty()) entry.long_name = "--" + option.get_lnames().front();
  if (entry.long_name.empty()) std::swap(entry.long_name, entry.short_name);
  entry.repeatable = option.get_items_expected_max() > 1;
  if (entry.long_name.empty())  // its name is its value's already
    entry.value = entry.long_name = option.get_name(/*positional=*/true);
  else if (option.get_expected_min() > 0)
    entry.value = option.get_type_name();
  return entry;
}

/// Groups in the order in which they first appear.
std::vector<OptionEntry> in_groups(const std::vector<OptionEntry>& options) {
  std::vector<OptionEntry> sorted;
  std::vector<std::string> groups;
  for (const OptionEntry& option : options)
    if (std::ranges::find(groups, option.group) == groups.end()) groups.push_back(option.group);
  for (const std::string& group : groups)
    std::ranges::copy_if(options, std::back_inserter(sorted),
                         [&](const OptionEntry& option) { return option.group == group; });
  return sorted;
}

std::vector<OptionEntry> describe_options(const CLI::App& app) {
  std::vector<OptionEntry> options;
  for (const CLI::Option* option : app.get_options())
    if (option != app.get_help_ptr() && option != app.get_help_all_ptr())
      options.push_back(describe(*option));
  return in_groups(options);
}

using Files = ValueChoices::Files;

const std::map<std::string, Files>& file_kinds() {
  static const std::map<std::string, Files> kKinds = {{"FILE", Files::kAny},
                                                      {"PNG", Files::kAny},
                                                      {"PATH", Files::kAny},
                                                      {"DIR", Files::kFolders},
                                                      {"RUN_DIR", Files::kFolders}};
  return kKinds;
}

/// Values whose names are too many to stand in an option's line.
std::vector<std::string> known_words(const std::string& kind) {
  if (kind == "SAMPLER") return sampler_names();
  if (kind == "METHOD") return merge_method_names();
  if (kind == "TARGET") return lora_target_names();
  return {};
}

bool is_literal(const std::string& word) {
  return std::ranges::all_of(word, [](unsigned char c) {
    return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '_' || c == '-';
  });
}

}  // namespace

std::string command_name(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  const bool is_top = parent == nullptr || parent->get_parent() == nullptr;
  return is_top ? app.get_name() : command_name(*parent) + " " + app.get_name();
}

const OptionEntry& CommandEntry::option(const std::string& long_name) const {
  const auto found = std::ranges::find(options, long_name, &OptionEntry::long_name);
  if (found == options.end())
    throw Error(fmt::format("internal: {} has no option {}", name, long_name));
  return *found;
}

OptionTree describe_program(const CLI::App& program, const std::vector<Command>& commands) {
  OptionTree tree{.summary = program.get_description(),
                  .program_options = describe_options(program)};
  for (const CLI::Option* option : {program.get_help_ptr(), program.get_help_all_ptr()})
    tree.help_options.push_back(describe(*option));
  for (const Command& command : commands)
    tree.commands.push_back({command_name(*command.app), command.app->get_description(),
                             command.help, describe_options(*command.app)});
  for (const CLI::App* app : program.get_subcommands([](const CLI::App*) { return true; }))
    if (!app->get_subcommands([](const CLI::App*) { return true; }).empty())
      tree.groups.push_back({app->get_name(), app->get_description()});
  return tree;
}

ValueChoices value_choices(const std::string& value) {
  ValueChoices choices;
  std::istringstream parts(value);
  for (std::string part; std::getline(parts, part, '|');) {
    if (part.starts_with("FILE[@")) {  // a LoRA and its strength
      choices.files = Files::kSafetensors;
      continue;
    }
    if (part.find('=') != std::string::npos) return {};  // NAME=x|y: no word stands alone
    const auto kind = file_kinds().find(part);
    if (kind != file_kinds().end()) {
      choices.files = kind->second;
      continue;
    }
    const std::string name = part.substr(0, part.find_first_of("[,"));  // cuda[:n]; TARGET,...
    if (is_literal(name)) choices.words.push_back(name);
    for (const std::string& word : known_words(name)) choices.words.push_back(word);
  }
  return choices;
}

}  // namespace molar::cli
