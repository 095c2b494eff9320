/// Options of one subcommand, bound to the fields of its options struct.
///
/// CLI11 splits the command line; values are read by value_parsing, so that a flag, an environment
/// variable and a line of a config file all end in the same check and the same words.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "value_parsing.h"

namespace molar::cli {

/// Replaces `target` by an option that was given.
template <typename T, typename Target>
void take(const std::optional<T>& value, Target& target) {
  if (value) target = *value;
}

/// Adds options to `app` under one heading of its help. `target` must outlive the parse.
class OptionBinder {
 public:
  OptionBinder(CLI::App& app, std::string group) : app_(app), group_(std::move(group)) {}

  /// `names` as CLI11 spells them: "-p,--prompt". `type` stands for the value in the help.
  template <typename T>
  CLI::Option* value(const std::string& names, std::optional<T>& target, const std::string& type,
                     const std::string& description) {
    const std::string option_name = long_name(names);
    return finish(app_.add_option(
                      names,
                      [&target, option_name](const CLI::results_t& texts) {
                        target = parse_value<T>(option_name, texts.front());
                        return true;
                      },
                      description),
                  type);
  }

  /// May be given several times; one value each.
  template <typename T>
  CLI::Option* list(const std::string& names, std::vector<T>& target, const std::string& type,
                    const std::string& description) {
    const std::string option_name = long_name(names);
    CLI::Option* option = app_.add_option(
        names,
        [&target, option_name](const CLI::results_t& texts) {
          target.clear();
          for (const std::string& text : texts) target.push_back(parse_value<T>(option_name, text));
          return true;
        },
        description);
    option->expected(1, CLI::detail::expected_max_vector_size);
    return finish(option, type);
  }

  CLI::Option* flag(const std::string& names, bool& target, const std::string& description) {
    return app_.add_flag(names, target, description)->group(group_);
  }

 private:
  static std::string long_name(const std::string& names) { return names.substr(names.find("--")); }

  CLI::Option* finish(CLI::Option* option, const std::string& type) {
    // Without this CLI11 takes "[a dog]" apart and lets a list swallow what follows it.
    return option->type_name(type)->group(group_)->allow_extra_args(false);
  }

  CLI::App& app_;
  std::string group_;
};

}  // namespace molar::cli
