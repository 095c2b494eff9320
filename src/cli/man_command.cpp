#include "man_command.h"

#include "man_page.h"
#include "result_stream.h"

namespace molar::cli {

CLI::App* register_man(CLI::App& program) {
  return program.add_subcommand("man", "Print the manual page");
}

CommandHelp man_help() {
  return {.usage = "",
          .examples = {"molar man | man -l -", "molar man > ~/.local/share/man/man1/molar.1"},
          .common_options = {}};
}

void run_man(const OptionTree& tree) { write_result(man_page(tree)); }

}  // namespace molar::cli
