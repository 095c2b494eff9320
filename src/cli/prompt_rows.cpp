#include "prompt_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "settings.h"

namespace molar::cli {
namespace {

/// As the list has it: what is wrong with a value there is bad input, not a wrong command line. A
/// row with a name comes from the command line.
ExitCode code_of(const PromptRow& row, ExitCode code) {
  return code == ExitCode::kUsage && row.name.empty() ? ExitCode::kInput : code;
}

/// The file of "FILE@W".
std::string file_part(const std::string& value) { return value.substr(0, value.rfind('@')); }

/// The cell that a message is about, by its option or by its value.
const PromptCell* cell_of(const PromptRow& row, const std::string& message) {
  const auto named = std::ranges::find_if(row.cells, [&](const PromptCell& cell) {
    const size_t at = message.find("--" + cell.key);
    const size_t end = at + 2 + cell.key.size();
    return at == 0 && (end == message.size() ||
                       std::string_view(" :'").find(message[end]) != std::string_view::npos);
  });
  if (named != row.cells.end()) return &*named;
  const auto place_in_message = [&](const PromptCell& cell) {
    size_t first = std::string::npos;
    if (cell.key == "prompt") return first;
    for (const std::string& value : cell.values)
      if (!value.empty()) first = std::min(first, message.find("'" + file_part(value)));
    return first;
  };
  const auto quoted = std::ranges::min_element(row.cells, {}, place_in_message);
  return quoted == row.cells.end() || place_in_message(*quoted) == std::string::npos ? nullptr
                                                                                     : &*quoted;
}

}  // namespace

std::vector<std::string> picture_option_names() {
  CLI::App app;
  GenerateOptions options;
  register_picture_options(app, options);
  std::vector<std::string> names = option_names(app);
  std::erase_if(names, [](const std::string& name) { return name == "help" || name == "version"; });
  return names;
}

PromptRows::PromptRows(const PromptList& list, const GenerateOptions& defaults,
                       const std::vector<std::string>& ignored)
    : list_(list),
      defaults_(defaults),
      ignored_(ignored.begin(), ignored.end()),
      names_(picture_option_names()) {
  register_picture_options(app_, options_);
  check_columns();
  if (!problems_.empty()) return;  // each row would say the same
  for (size_t i = 0; i < list.rows.size(); ++i) read(list.rows[i], static_cast<int64_t>(i) + 1);
}

CLI::Option* PromptRows::option(const std::string& key) const {
  if (std::ranges::find(names_, key) == names_.end()) return nullptr;
  return const_cast<CLI::App&>(app_).get_option_no_throw("--" + key);
}

std::optional<std::string> PromptRows::unknown(const std::string& key) const {
  if (option(key) != nullptr || ignored_.contains(key)) return std::nullopt;
  const std::string near = suggestion(key, names_);
  return fmt::format("'{}' is no option of a picture{}", key,
                     near.empty() ? "; see 'molar batch --help', or --ignore-column " + key : near);
}

void PromptRows::check_columns() {
  for (const PromptCell& column : list_.columns)
    if (const auto message = unknown(column.key))
      problems_.push_back(
          {fmt::format("{}: column {}", place(list_.source, column.position), *message)});
}

std::string PromptRows::origin(const PromptRow& row, const TextPosition& position) const {
  return row.name.empty() ? place(list_.source, position) : "";
}

void PromptRows::set(const PromptRow& row, const PromptCell& cell) {
  const std::string origin = this->origin(row, cell.position);
  if (CLI::Option* target = option(cell.key)) {
    target->clear();
    set_option(*target, cell.values, origin);
  } else if (const auto message = unknown(cell.key)) {
    throw InputError(fmt::format("{}: {}", origin, *message));
  }
}

BatchRow PromptRows::to_batch_row(const PromptRow& row, int64_t number) {
  options_ = defaults_;
  const auto cell_named = [&](const char* key) {
    return std::ranges::find(row.cells, key, &PromptCell::key);
  };
  // A row's own choice takes the command line's place, which would exclude it.
  if (const auto no_mole = cell_named("no-mole"); no_mole != row.cells.end()) {
    set(row, *no_mole);
    if (options_.mole.off) options_.mole = MoleOptions{.off = true};
  } else if (cell_named("mole") != row.cells.end()) {
    options_.mole.off = false;
  }
  for (const PromptCell& cell : row.cells) set(row, cell);
  if (!options_.prompt)
    throw InputError(fmt::format("{}: no prompt; wanted a prompt in the row, or -p for all rows",
                                 place(list_.source, row.position)));
  BatchRow out{.number = number,
               .place = row.name.empty() ? place(list_.source, row.position) : row.name};
  try {
    out.request = resolve_request(options_, std::nullopt);
    out.model = resolve_model(options_, std::nullopt);
  } catch (const Error& error) {
    const ListProblem problem = describe(number, {error.exit_code(), error.what()});
    throw Error(problem.message, problem.exit_code);
  }
  out.has_seed = options_.seed.has_value();
  return out;
}

void PromptRows::read(const PromptRow& row, int64_t number) {
  if (!row.problem.empty()) {
    problems_.push_back({row.problem});
    return;
  }
  try {
    rows_.push_back(to_batch_row(row, number));
  } catch (const Error& error) {
    problems_.push_back({error.what(), code_of(row, error.exit_code())});
  }
}

ListProblem PromptRows::describe(int64_t number, const Failure& failure) const {
  const PromptRow& row = list_.rows[static_cast<size_t>(number - 1)];
  const PromptCell* cell = cell_of(row, failure.message);
  const std::string where = origin(row, cell == nullptr ? row.position : cell->position);
  return {where.empty() ? failure.message : fmt::format("{}: {}", where, failure.message),
          code_of(row, failure.exit_code)};
}

}  // namespace molar::cli
