#include "app.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <string_view>

#include "batch_command.h"
#include "command.h"
#include "completion_command.h"
#include "doctor_command.h"
#include "eval_command.h"
#include "generate_command.h"
#include "grid_command.h"
#include "help.h"
#include "inspect_command.h"
#include "man_command.h"
#include "merge_command.h"
#include "molar/core/error.h"
#include "molar/core/failure.h"
#include "molar/core/nearest_name.h"
#include "molar/core/text.h"
#include "molar/core/version.h"
#include "molar/io/json_config.h"
#include "report_command.h"
#include "result_stream.h"
#include "settings.h"
#include "train_expert_command.h"
#include "train_gates_command.h"
#include "train_hypernet_command.h"
#include "train_lora_command.h"
#include "train_ziplora_command.h"

namespace molar::cli {
namespace {

constexpr size_t kMaxMessageBytes = 2000;

/// Every subcommand's options and the parser that fills them.
struct Program {
  CLI::App app{"molar draws pictures with Stable Diffusion, LoRA and merged LoRAs, offline.",
               "molar"};
  GenerateOptions generate;
  BatchCommandOptions batch;
  GridCommandOptions grid;
  ReportCommandOptions report;
  MergeCommandOptions merge;
  InspectOptions inspect;
  TrainLoraOptions train_lora;
  TrainZiploraOptions train_ziplora;
  TrainHypernetOptions train_hypernet;
  TrainExpertOptions train_expert;
  TrainGatesOptions train_gates;
  EvalOptions eval;
  DoctorOptions doctor;
  CompletionOptions completion;
  ManOptions man;
  std::vector<Command> commands;
  bool version = false, version_json = false;

  OptionTree tree() const { return describe_program(app, commands); }
};

void build(Program& program) {
  program.app.set_help_flag("-h", "Short help");
  program.app.set_help_all_flag("--help", "Every option");
  program.app.add_flag("--version", program.version, "Version")->configurable(false);
  program.app.add_flag("--json", program.version_json, "With --version: as JSON")
      ->configurable(false);
  program.app.require_subcommand(0, 1);
  program.commands.push_back(
      {register_generate(program.app, program.generate), &program.generate.run, generate_help(),
       [&program] {
         return program.generate.from ? program.generate.picture_option_names
                                      : std::set<std::string>{};
       },
       [&program](const LogSession& log) { run_generate(program.generate, log); }});
  const auto add = [&program](CLI::App* app, const RunOptions& run, const CommandHelp& help,
                              std::function<void(const LogSession&)> work) {
    program.commands.push_back(
        {app, &run, help, [] { return std::set<std::string>{}; }, std::move(work)});
  };
  add(register_batch(program.app, program.batch), program.batch.defaults.run, batch_help(),
      [&program](const LogSession& log) { return run_batch(program.batch, log); });
  add(register_grid(program.app, program.grid), program.grid.defaults.run, grid_help(),
      [&program](const LogSession& log) { run_grid(program.grid, log); });
  add(register_report(program.app, program.report), program.report.run, report_help(),
      [&program](const LogSession& log) { run_report(program.report, log); });
  add(register_merge(program.app, program.merge), program.merge.run, merge_help(),
      [&program](const LogSession& log) { run_merge(program.merge, log); });
  add(register_inspect(program.app, program.inspect), program.inspect.run, inspect_help(),
      [&program](const LogSession&) { run_inspect(program.inspect); });
  add(register_eval(program.app, program.eval), program.eval.run, eval_help(),
      [&program](const LogSession& log) { run_eval(program.eval, log); });
  CLI::App* train = program.app.add_subcommand("train", "Learn from pictures");
  train->require_subcommand(0, 1);
  add(register_train_lora(*train, program.train_lora), program.train_lora.training.run,
      train_lora_help(),
      [&program](const LogSession& log) { run_train_lora(program.train_lora, log); });
  add(register_train_ziplora(*train, program.train_ziplora), program.train_ziplora.training.run,
      train_ziplora_help(),
      [&program](const LogSession& log) { run_train_ziplora(program.train_ziplora, log); });
  add(register_train_hypernet(*train, program.train_hypernet), program.train_hypernet.training.run,
      train_hypernet_help(),
      [&program](const LogSession& log) { run_train_hypernet(program.train_hypernet, log); });
  add(register_train_expert(*train, program.train_expert), program.train_expert.training.run,
      train_expert_help(),
      [&program](const LogSession& log) { run_train_expert(program.train_expert, log); });
  add(register_train_gates(*train, program.train_gates), program.train_gates.training.run,
      train_gates_help(),
      [&program](const LogSession& log) { run_train_gates(program.train_gates, log); });
  add(register_doctor(program.app, program.doctor), program.doctor.run, doctor_help(),
      [&program](const LogSession&) { run_doctor(program.doctor); });
  add(register_completion(program.app, program.completion), program.completion.run,
      completion_help(),
      [&program](const LogSession&) { run_completion(program.completion, program.tree()); });
  add(register_man(program.app), program.man.run, man_help(),
      [&program](const LogSession&) { run_man(program.tree()); });
}

/// The subcommand that the arguments named, null where they named none.
const Command* chosen_command(const Program& program) {
  for (const Command& command : program.commands)
    if (command.app->parsed()) return &command;
  return nullptr;
}

/// A command without work of its own that the arguments named ("train"), else the program.
const CLI::App& chosen_group(const Program& program) {
  const auto parsed = program.app.get_subcommands();  // those that were named
  return parsed.empty() ? program.app : *parsed.front();
}

std::vector<std::string> command_names(const CLI::App& group) {
  std::vector<std::string> names;
  for (const CLI::App* command : group.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

/// "--name=" is an empty value; CLI11 would take the next argument instead.
std::vector<std::string> split_empty_values(const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  bool options_ended = false;
  for (const std::string& argument : arguments) {
    options_ended = options_ended || argument == "--";
    if (!options_ended && argument.starts_with("--") && argument.find('=') == argument.size() - 1) {
      out.push_back(argument.substr(0, argument.size() - 1));
      out.emplace_back();
    } else {
      out.push_back(argument);
    }
  }
  return out;
}

/// What the user got wrong, for an argument that nothing took.
std::string describe_extra(const Program& program, const Command* command, std::string argument) {
  const std::string help =
      command == nullptr ? "molar -h" : fmt::format("molar {} --help", command_name(*command->app));
  if (argument.starts_with('-') && argument.size() > 1) {
    argument.resize(std::min(argument.find('='), argument.size()));
    const CLI::App& app = command == nullptr ? program.app : *command->app;
    std::vector<std::string> names;
    for (const std::string& name : option_names(app)) names.push_back("--" + name);
    return fmt::format("unknown option '{}'{} See '{}'", argument,
                       suggestion_or_stop(argument, names), help);
  }
  if (command == nullptr)
    return fmt::format("unknown command '{}'{} See '{}'", argument,
                       suggestion_or_stop(argument, command_names(chosen_group(program))), help);
  return fmt::format("unexpected argument '{}'; a value with spaces needs quotes. See '{}'",
                     argument, help);
}

std::string describe_parse_error(const Program& program, const CLI::ParseError& error) {
  const Command* command = chosen_command(program);
  const std::vector<std::string> extras = program.app.remaining(/*recurse=*/true);
  if (!extras.empty()) {
    // Without a command everything after the unknown word is unknown too; with one, options say
    // more.
    const auto option = std::find_if(extras.begin(), extras.end(), [&](const std::string& e) {
      return command != nullptr && e.starts_with('-');
    });
    return describe_extra(program, command, option == extras.end() ? extras.front() : *option);
  }
  return fmt::format("{}. See 'molar {}--help'", error.what(),
                     command == nullptr ? "" : command_name(*command->app) + " ");
}

std::string version_text(bool json) {
  if (json)
    return Json{{"schema", 1},
                {"molar", molar_version()},
                {"git", git_version()},
                {"torch", torch_version()}}
        .dump();
  return fmt::format("molar {} (git {}, libtorch {})", molar_version(),
                     git_version().empty() ? "unknown" : git_version(), torch_version());
}

void say_error(std::string_view prefix, std::string_view message) {
  const std::string line = fmt::format("{}{}\n", prefix, one_line(message, kMaxMessageBytes));
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

int fail(ExitCode code, std::string_view message) {
  say_error(code == ExitCode::kStopped ? "" : "error: ", message);
  return static_cast<int>(code);
}

void turn_colour_off_if_asked() {
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color == nullptr || *no_color == '\0') return;
  for (const spdlog::sink_ptr& sink : spdlog::default_logger()->sinks())
    if (auto* colour = dynamic_cast<spdlog::sinks::stderr_color_sink_mt*>(sink.get()))
      colour->set_color_mode(spdlog::color_mode::never);
}

int run_command(const Program& program, const Command& command) {
  const std::set<std::string> held = command.held_options();
  apply_environment(*command.app, held);
  if (command.run_options->config)
    apply_config_file(*command.app, *command.run_options->config, held);
  const LogSession log(command.run_options->verbosity());
  turn_colour_off_if_asked();
  for (const std::string& message : unknown_environment(program.app)) spdlog::warn(message);
  command.run(log);
  return static_cast<int>(ExitCode::kOk);
}

/// Of the command that the arguments named, or of the program.
void write_help(const Program& program, std::string (*of_program)(const OptionTree&),
                std::string (*of_command)(const CommandEntry&)) {
  const OptionTree tree = program.tree();
  const Command* command = chosen_command(program);
  if (command == nullptr) {
    write_result(of_program(tree));
    return;
  }
  const std::string name = command_name(*command->app);
  write_result(of_command(*std::ranges::find(tree.commands, name, &CommandEntry::name)));
}

int parse_and_run(Program& program, std::vector<std::string> arguments) {
  arguments = split_empty_values(arguments);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    program.app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    write_help(program, program_help, short_help);
    return static_cast<int>(ExitCode::kOk);
  } catch (const CLI::CallForAllHelp&) {
    write_help(program, program_help, full_help);
    return static_cast<int>(ExitCode::kOk);
  } catch (const CLI::ParseError& error) {
    return fail(ExitCode::kUsage, describe_parse_error(program, error));
  }
  if (program.version) {
    write_result_line(version_text(program.version_json));
    return static_cast<int>(ExitCode::kOk);
  }
  const Command* command = chosen_command(program);
  if (command == nullptr) {
    const CLI::App& group = chosen_group(program);
    return fail(ExitCode::kUsage,
                &group == &program.app
                    ? "no command; wanted 'molar generate', see 'molar -h'"
                    : fmt::format("no command after '{0}'; wanted 'molar {0} {1}', see 'molar -h'",
                                  group.get_name(), command_names(group).front()));
  }
  return run_command(program, *command);
}

}  // namespace

int run_program(std::vector<std::string> arguments) {
  open_closed_descriptors();
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of write(2), not a death
  try {
    Program program;
    build(program);
    return parse_and_run(program, std::move(arguments));
  } catch (...) {
    const Failure failure = describe_failure(std::current_exception());
    return fail(failure.exit_code, failure.message);
  }
}

}  // namespace molar::cli
