#include "man_page.h"

#include <fmt/format.h>

#include <string_view>

#include "molar/core/error.h"
#include "molar/core/version.h"

namespace molar::cli {
namespace {

struct ExitCodeRow {
  ExitCode code;
  const char* meaning;
};
constexpr ExitCodeRow kExitCodes[] = {
    {ExitCode::kOk, "all was done"},
    {ExitCode::kOther, "another error"},
    {ExitCode::kUsage, "the command line or the configuration"},
    {ExitCode::kInput, "bad input: a list, picture or prompt"},
    {ExitCode::kFile, "a file is missing, corrupt or not what it claims to be"},
    {ExitCode::kFit, "a LoRA, hypernetwork or expert does not fit the model"},
    {ExitCode::kMemory, "out of memory"},
    {ExitCode::kPicture, "NaN or a blank picture"},
    {ExitCode::kRowsFailed, "batch: some rows failed"},
    {ExitCode::kNetwork, "the judge or the network"},
    {ExitCode::kStopped, "stopped at a safe point; the same command goes on"},
};

/// Text that roff prints as it stands.
std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";  // else a hyphen, which nobody can copy
    else if (c == '\'' || c == '`' || c == '^' || c == '~')
      out += c == '\'' ? "\\(aq" : c == '`' ? "\\(ga" : c == '^' ? "\\(ha" : "\\(ti";
    else
      out += c;
  }
  return out.starts_with('.') ? "\\&" + out : out;
}

std::string option_names(const OptionEntry& option) {
  std::string text = ".TP\n";
  if (option.is_positional()) return fmt::format("{}\\fI{}\\fR\n", text, roff(option.long_name));
  if (!option.short_name.empty()) text += fmt::format("\\fB{}\\fR, ", roff(option.short_name));
  text += fmt::format("\\fB{}\\fR", roff(option.long_name));
  if (!option.value.empty()) text += fmt::format(" \\fI{}\\fR", roff(option.value));
  return text + "\n";
}

std::string command_section(const CommandEntry& command) {
  std::string text = fmt::format(".SS molar {}\n{}.\n.PP\n\\fBmolar {}\\fR {}\n.PP\nExamples:\n",
                                 roff(command.name), roff(command.summary), roff(command.name),
                                 roff(command.help.usage));
  text += ".PP\n.nf\n.RS\n";
  for (const std::string& example : command.help.examples) text += roff(example) + "\n";
  text += ".RE\n.fi\n";
  std::string group;
  for (const OptionEntry& option : command.options) {
    if (option.group != group) text += fmt::format(".PP\n\\fB{}\\fR\n", roff(option.group));
    group = option.group;
    text += option_names(option) + roff(option.text) + "\n";
  }
  return text;
}

}  // namespace

std::string man_page(const OptionTree& tree) {
  std::string text = fmt::format(
      ".\\\" Written by `molar man`.\n.TH MOLAR 1 {} \"molar {}\" \"User Commands\"\n.SH NAME\n"
      "molar \\- pictures with Stable Diffusion, LoRA and merged LoRAs, offline\n.SH SYNOPSIS\n",
      build_date(), molar_version());
  for (const CommandEntry& command : tree.commands)
    text += fmt::format("{}\\fBmolar {}\\fR {}\n", &command == tree.commands.data() ? "" : ".br\n",
                        roff(command.name), roff(command.help.usage));
  text += fmt::format(".SH DESCRIPTION\n{}\n", roff(tree.summary));
  text +=
      "Results go to standard output: paths, one a line, or JSON objects with \\fB\\-\\-json\\fR; "
      "all else goes to\nstandard error.\n"
      "\\fBmolar\\fR \\fICOMMAND\\fR \\fB\\-h\\fR shows a command\\(aqs common options, "
      "\\fB\\-\\-help\\fR all of them.\n";
  for (const OptionEntry& option : tree.program_options)
    text += option_names(option) + roff(option.text) + "\n";
  text += ".SH COMMANDS\n";
  for (const CommandEntry& command : tree.commands) text += command_section(command);
  text +=
      ".SH ENVIRONMENT\n"
      "Each option can also be set by a variable of its name: \\fBMOLAR_CFG_SCALE\\fR for "
      "\\fB\\-\\-cfg\\-scale\\fR.\nFlags win over the environment, the environment over a "
      "\\fB\\-\\-config\\fR file.\n"
      "\\fBNO_COLOR\\fR turns colours off.\n.SH EXIT STATUS\n";
  for (const ExitCodeRow& row : kExitCodes)
    text += fmt::format(".TP\n.B {}\n{}\n", static_cast<int>(row.code), roff(row.meaning));
  return text + ".TP\n.B 130, 143\nended at once by a second signal\n";
}

}  // namespace molar::cli
