#include "completion_command.h"

#include <fmt/format.h>

#include "completion_scripts.h"
#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "result_stream.h"

namespace molar::cli {
namespace {

struct Shell {
  const char* name;
  std::string (*script)(const OptionTree& tree);
};
constexpr Shell kShells[] = {
    {"bash", bash_completion}, {"zsh", zsh_completion}, {"fish", fish_completion}};

}  // namespace

CLI::App* register_completion(CLI::App& program, CompletionOptions& options) {
  CLI::App* app = program.add_subcommand("completion", "Print a shell's completion script");
  app->add_option("bash|zsh|fish", options.shells, "The shell")->group("What")->configurable(false);
  return app;
}

CommandHelp completion_help() {
  return {.usage = "bash|zsh|fish",
          .examples = {"source <(molar completion bash)",
                       "molar completion fish > ~/.config/fish/completions/molar.fish"},
          .common_options = {"bash|zsh|fish"}};
}

void run_completion(const CompletionOptions& options, const OptionTree& tree) {
  if (options.shells.size() != 1)
    throw ConfigError("wanted one shell: molar completion bash, zsh or fish");
  for (const Shell& shell : kShells)
    if (shell.name == options.shells.front()) {
      write_result(shell.script(tree));
      return;
    }
  throw ConfigError(fmt::format("no completion for '{}'; wanted bash, zsh or fish{}",
                                options.shells.front(),
                                suggestion(options.shells.front(), {"bash", "zsh", "fish"})));
}

}  // namespace molar::cli
