#include "molar/io/prompt_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "molar/core/error.h"
#include "molar/io/csv.h"
#include "molar/io/json_config.h"

namespace molar {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kBlanks = " \t\r";

/// What other tools' lists call an option.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"scale", "cfg-scale"},           {"guidance-scale", "cfg-scale"}, {"sample-steps", "steps"},
    {"num-inference-steps", "steps"}, {"sample-sampler", "sampler"},   {"sampler-name", "sampler"},
};

/// Options of kohya's prompt lines.
constexpr std::pair<std::string_view, std::string_view> kKohyaOptions[] = {
    {"n", "negative-prompt"}, {"w", "width"},     {"h", "height"},   {"d", "seed"},
    {"s", "steps"},           {"l", "cfg-scale"}, {"t", "strength"},
};

/// Keys that may have several values.
constexpr std::string_view kListKeys[] = {"lora", "expert", "region"};

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

template <size_t kSize>
std::string translated(std::string name,
                       const std::pair<std::string_view, std::string_view> (&table)[kSize]) {
  const auto* found = std::ranges::find(table, name, [](const auto& row) { return row.first; });
  return found == std::end(table) ? name : std::string(found->second);
}

bool is_list(const std::string& key) {
  return std::ranges::find(kListKeys, key) != std::end(kListKeys);
}

/// The place of the character at `offset` of a line.
TextPosition inside(int64_t line, std::string_view text, size_t offset) {
  TextPosition position{.line = line};
  for (const char byte : text.substr(0, offset)) position.advance(byte, '\0');
  return position;
}

/// A row may name a key once.
void add_cell(PromptRow& row, PromptCell cell, const std::string& source) {
  const auto known = std::ranges::find(row.cells, cell.key, &PromptCell::key);
  if (known == row.cells.end())
    row.cells.push_back(std::move(cell));
  else if (row.problem.empty())
    row.problem = fmt::format("{}: '{}' was already given in column {}",
                              place(source, cell.position), cell.key, known->position.column);
}

// ---- CSV ----

std::vector<PromptCell> read_header(const CsvRow& row, const std::string& source) {
  std::vector<PromptCell> columns;
  for (const CsvCell& cell : row) {
    PromptCell column{prompt_key(cell.text), {}, cell.position};
    if (column.key.empty())
      throw InputError(fmt::format("{}: a column without a name; wanted the long name of an option",
                                   place(source, cell.position)));
    const auto known = std::ranges::find(columns, column.key, &PromptCell::key);
    if (known != columns.end())
      throw InputError(fmt::format("{}: column '{}' stands twice, first at {}",
                                   place(source, cell.position), column.key,
                                   place(source, known->position)));
    columns.push_back(std::move(column));
  }
  return columns;
}

PromptRow read_csv_row(const CsvRow& cells, const std::vector<PromptCell>& columns,
                       const std::string& source) {
  PromptRow row{.position = cells.front().position};
  if (cells.size() != columns.size()) {
    const size_t odd = std::min(cells.size() - 1, columns.size());
    row.problem = fmt::format(
        "{}: wanted {} cells as in the header, found {}{}", place(source, cells[odd].position),
        columns.size(), cells.size(),
        cells.size() > columns.size() ? "; a cell with a comma is written as \"...\"" : "");
    return row;
  }
  for (size_t i = 0; i < cells.size(); ++i)
    if (!trimmed(cells[i].text).empty())
      row.cells.push_back(
          {columns[i].key, prompt_values(columns[i].key, cells[i].text), cells[i].position});
  return row;
}

void read_csv(std::string_view text, PromptList& list) {
  const std::vector<CsvRow> rows = parse_csv(text, list.source);
  if (rows.empty()) return;
  list.columns = read_header(rows.front(), list.source);
  for (size_t i = 1; i < rows.size(); ++i)
    list.rows.push_back(read_csv_row(rows[i], list.columns, list.source));
}

// ---- lines ----

template <typename Read>
void for_each_line(std::string_view text, const Read& read) {
  int64_t number = 0;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    std::string_view line = text.substr(start, end - start);
    if (line.ends_with('\r')) line.remove_suffix(1);
    read(line, ++number);
    start = end + 1;
  }
}

/// As the option would be written; nullopt for what no option is.
std::optional<std::string> json_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  return std::nullopt;
}

PromptCell read_json_cell(const std::string& name, const Json& value, const TextPosition& position,
                          const std::string& source) {
  PromptCell cell{prompt_key(name), {}, position};
  const bool is_array = value.is_array() && is_list(cell.key);
  for (const Json& part : is_array ? value : Json::array({value})) {
    const auto text = json_text(part);
    if (!text)
      throw InputError(fmt::format("{}: '{}': wanted text, a number, true or false{}, found {}",
                                   place(source, position), name,
                                   is_list(cell.key) ? ", or a list of texts" : "",
                                   part.is_object() ? "an object" : part.type_name()));
    cell.values.push_back(*text);
  }
  return cell;
}

void read_json_line(std::string_view line, int64_t number, PromptList& list) {
  if (trimmed(line).empty()) return;
  PromptRow row{.position = {.line = number}};
  try {
    Json object;
    try {
      object = parse_json(line, place(list.source, row.position));
    } catch (const FileError& error) {
      throw InputError(error.what());
    }
    if (!object.is_object())
      throw InputError(
          fmt::format("{}: wanted a JSON object such as {{\"prompt\": \"a dog\"}}, "
                      "found {}",
                      place(list.source, row.position), object.type_name()));
    for (const auto& [name, value] : object.items()) {
      const size_t at = line.find(Json(name).dump());
      const TextPosition position = inside(number, line, at == std::string_view::npos ? 0 : at);
      if (!value.is_null())
        add_cell(row, read_json_cell(name, value, position, list.source), list.source);
    }
  } catch (const InputError& error) {
    row.problem = error.what();
  }
  list.rows.push_back(std::move(row));
}

/// Where the next " --name" starts at or behind `from`; npos: nowhere.
size_t find_option(std::string_view line, size_t from) {
  for (size_t at = line.find("--", from); at != std::string_view::npos;
       at = line.find("--", at + 2))
    if (at > 0 && kBlanks.find(line[at - 1]) != std::string_view::npos) return at;
  return std::string_view::npos;
}

void read_text_line(std::string_view line, int64_t number, PromptList& list) {
  const size_t first = line.find_first_not_of(kBlanks);
  if (first == std::string_view::npos || line[first] == '#') return;
  PromptRow row{.position = inside(number, line, first)};
  size_t option = line.substr(first).starts_with("--") ? first : find_option(line, first);
  if (option > first)
    row.cells.push_back(
        {"prompt", {std::string(trimmed(line.substr(first, option - first)))}, row.position});
  while (option != std::string_view::npos) {
    const size_t next = find_option(line, option + 2);
    const std::string_view words =
        line.substr(option + 2, std::min(next, line.size()) - option - 2);
    const size_t name_end = std::min(words.find_first_of(" \t="), words.size());
    const TextPosition position = inside(number, line, option);
    const std::string name(words.substr(0, name_end));
    const std::string_view value = trimmed(words.substr(std::min(name_end + 1, words.size())));
    PromptCell cell{prompt_key(translated(name, kKohyaOptions)), {}, position};
    cell.values = prompt_values(cell.key, value);
    if (name.empty() || value.empty()) {
      if (row.problem.empty())
        row.problem = fmt::format(
            "{}: '--{}': wanted an option and its value; a prompt that holds ' --' goes into a CSV "
            "or JSON lines file",
            place(list.source, position), name);
    } else {
      add_cell(row, std::move(cell), list.source);
    }
    option = next;
  }
  list.rows.push_back(std::move(row));
}

}  // namespace

std::string prompt_key(std::string_view name) {
  std::string key(trimmed(name));
  for (char& c : key)
    c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (key.starts_with("--")) key.erase(0, 2);
  return translated(std::move(key), kAliases);
}

std::vector<std::string> prompt_values(const std::string& key, std::string_view text) {
  if (!is_list(key)) return {std::string(text)};
  std::vector<std::string> values;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(';', start), text.size());
    values.emplace_back(trimmed(text.substr(start, end - start)));
    start = end + 1;
  }
  return values;
}

PromptListFormat guess_format(std::string_view name, std::string_view text) {
  constexpr std::pair<std::string_view, PromptListFormat> kExtensions[] = {
      {".csv", PromptListFormat::kCsv},          {".jsonl", PromptListFormat::kJsonLines},
      {".ndjson", PromptListFormat::kJsonLines}, {".json", PromptListFormat::kJsonLines},
      {".txt", PromptListFormat::kText},
  };
  for (const auto& [extension, format] : kExtensions)
    if (name.ends_with(extension)) return format;
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '{' ? PromptListFormat::kJsonLines
                                                               : PromptListFormat::kCsv;
}

PromptList parse_prompt_list(std::string_view text, const std::string& source,
                             PromptListFormat format) {
  require_utf8(text, source);
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  PromptList list{.source = source};
  switch (format) {
    case PromptListFormat::kCsv:
      read_csv(text, list);
      break;
    case PromptListFormat::kJsonLines:
      for_each_line(text, [&](std::string_view line, int64_t n) { read_json_line(line, n, list); });
      break;
    case PromptListFormat::kText:
      for_each_line(text, [&](std::string_view line, int64_t n) { read_text_line(line, n, list); });
      break;
  }
  if (list.rows.empty())
    throw InputError(fmt::format("{}: no rows; wanted {}", source,
                                 format != PromptListFormat::kCsv ? "a prompt on each line"
                                 : list.columns.empty()
                                     ? "a header such as prompt,seed,steps and a row a picture"
                                     : "a row a picture below the header"));
  return list;
}

}  // namespace molar
