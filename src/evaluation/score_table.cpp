#include "molar/evaluation/score_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "molar/core/error.h"
#include "molar/core/markup.h"

namespace molar {
namespace {

/// 97.5 % points of Student's t distribution; past 30 degrees of freedom by the first two terms of
/// its expansion about the normal distribution (Abramowitz and Stegun 26.7.5), exact to 0.001.
double student_975(int64_t degrees) {
  constexpr double kPoints[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
  if (degrees <= std::ssize(kPoints)) return kPoints[degrees - 1];
  constexpr double z = 1.959964, z3 = z * z * z, z5 = z3 * z * z;
  const auto n = static_cast<double>(degrees);
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n);
}

std::optional<double> mean_of(const Scores& scores, std::initializer_list<const char*> names) {
  double sum = 0;
  int64_t count = 0;
  for (const char* name : names)
    if (const auto found = scores.find(name); found != scores.end()) {
      sum += found->second;
      ++count;
    }
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

using Means = std::map<std::string, double>;  // of units or twins

double mean(const Means& means) {
  double sum = 0;
  for (const auto& [key, value] : means) sum += value;
  return sum / static_cast<double>(means.size());
}

/// nullopt for fewer than two.
std::optional<double> standard_error(const Means& means) {
  if (means.size() < 2) return std::nullopt;
  const auto n = static_cast<double>(means.size());
  const double middle = mean(means);
  double squares = 0;
  for (const auto& [key, value] : means) squares += (value - middle) * (value - middle);
  return std::sqrt(squares / (n - 1) / n);
}

/// Pictures' values of one measure, by unit and by twin.
struct MeasuredValues {
  std::map<std::string, std::vector<double>> units;
  std::map<std::string, std::pair<std::string, double>> twins;  // twin -> its unit and value

  void add(const std::string& unit, const std::string& twin, double value) {
    units[unit].push_back(value);
    if (!twin.empty()) twins[twin] = {unit, value};
  }
  Means unit_means() const {
    Means means;
    for (const auto& [unit, values] : units) {
      double sum = 0;
      for (const double value : values) sum += value;
      means[unit] = sum / static_cast<double>(values.size());
    }
    return means;
  }
  Estimate estimate(Unit unit) const {
    const Means means = unit_means();
    Estimate result{.mean = mean(means), .error = standard_error(means), .picture_error = {}};
    if (result.error && unit == Unit::kPair) *result.error *= student_975(std::ssize(means) - 1);
    Means values;
    for (const auto& [twin, entry] : twins) values[twin] = entry.second;
    result.picture_error = standard_error(values);
    return result;
  }
};

struct MethodScores {
  int64_t num_pictures = 0;
  std::set<std::string> units;
  std::map<std::string, MeasuredValues> measured;  // name of a measure -> values
};

std::map<std::string, MethodScores> by_method(const std::vector<ScoredPicture>& pictures) {
  std::map<std::string, MethodScores> methods;
  for (const ScoredPicture& picture : pictures) {
    MethodScores& method = methods[picture.method];
    ++method.num_pictures;
    method.units.insert(picture.unit);
    for (const auto& [name, value] : picture.scores)
      method.measured[name].add(picture.unit, picture.twin, value);
  }
  return methods;
}

TableRow row_of(const std::string& name, const MethodScores& method, Unit unit) {
  TableRow row{.method = name,
               .num_pictures = method.num_pictures,
               .num_units = std::ssize(method.units),
               .estimates = {}};
  for (const auto& [measure, values] : method.measured)
    row.estimates[measure] = values.estimate(unit);
  return row;
}

/// Only twins that both have; without twins, units that both have.
MeasuredValues difference(const MeasuredValues& ours, const MeasuredValues& theirs) {
  MeasuredValues result;
  for (const auto& [twin, entry] : ours.twins)
    if (const auto other = theirs.twins.find(twin); other != theirs.twins.end())
      result.add(entry.first, twin, entry.second - other->second.second);
  if (!ours.twins.empty()) return result;
  const Means means = theirs.unit_means();
  for (const auto& [unit, value] : ours.unit_means())
    if (const auto other = means.find(unit); other != means.end())
      result.add(unit, "", value - other->second);
  return result;
}

MethodScores difference(const MethodScores& method, const MethodScores& baseline) {
  MethodScores result{.num_pictures = method.num_pictures, .units = method.units, .measured = {}};
  for (const auto& [measure, values] : method.measured)
    if (const auto theirs = baseline.measured.find(measure); theirs != baseline.measured.end())
      if (MeasuredValues both = difference(values, theirs->second); !both.units.empty())
        result.measured[measure] = std::move(both);
  return result;
}

/// "+0.120 ± 0.030 (0.012)": in brackets the standard error over pictures.
std::string cell(const TableRow& row, const Measure& measure, bool is_difference) {
  const auto found = row.estimates.find(std::string(measure.name));
  if (found == row.estimates.end()) return "–";
  const auto& [mean, error, picture_error] = found->second;
  std::string text = is_difference ? fmt::format("{:+.3f}", mean) : fmt::format("{:.3f}", mean);
  if (error) text += fmt::format(" ± {:.3f}", *error);
  if (picture_error) text += fmt::format(" ({:.3f})", *picture_error);
  return text;
}

/// Columns that some row has.
std::vector<Measure> columns_of(const std::vector<TableRow>& rows) {
  std::vector<Measure> columns;
  for (const Measure& measure : measures())
    if (std::ranges::any_of(rows, [&](const TableRow& row) {
          return row.estimates.contains(std::string(measure.name));
        }))
      columns.push_back(measure);
  return columns;
}

struct TextTable {
  std::string title;
  std::vector<std::vector<std::string>> lines;  // the first: headings
};

/// What a table says of its numbers.
struct UnitWords {
  const char *plural, *means, *differences;
};
UnitWords words_of(Unit unit) {
  if (unit == Unit::kPair)
    return {"pairs", "Means over pairs, with 95 % intervals",
            "Differences from {}, pair by pair, with 95 % intervals"};
  return {"repeats",
          "Means over repeats, ± their standard error (in brackets: the standard error over "
          "pictures)",
          "Differences from {}, picture by picture, ± standard error over repeats (over pictures)"};
}

TextTable text_table(const std::string& title, const ScoreTable& source, bool is_difference) {
  const std::vector<TableRow>& rows = is_difference ? source.differences : source.rows;
  const std::vector<Measure> columns = columns_of(rows);
  TextTable table{.title = source.title.empty() ? title : source.title + ": " + title,
                  .lines = {{"method", "pictures", words_of(source.unit).plural}}};
  for (const Measure& column : columns)
    table.lines[0].push_back(
        fmt::format("{} {}", column.heading, column.smaller_is_better ? "↓" : "↑"));
  for (const TableRow& row : rows) {
    std::vector<std::string> line{row.method.empty() ? "none" : row.method,
                                  std::to_string(row.num_pictures), std::to_string(row.num_units)};
    for (const Measure& column : columns) line.push_back(cell(row, column, is_difference));
    table.lines.push_back(std::move(line));
  }
  return table;
}

std::vector<TextTable> text_tables(const std::vector<ScoreTable>& sources) {
  std::vector<TextTable> tables;
  for (const ScoreTable& source : sources) {
    const UnitWords words = words_of(source.unit);
    tables.push_back(text_table(words.means, source, /*is_difference=*/false));
    if (!source.differences.empty())
      tables.push_back(text_table(fmt::format(fmt::runtime(words.differences), source.baseline),
                                  source, /*is_difference=*/true));
  }
  return tables;
}

}  // namespace

const std::vector<Measure>& measures() {
  static const std::vector<Measure> all{
      {"clip_i_subject", "CLIP-I subject"},
      {"dino_subject", "DINO subject"},
      {"clip_i_style", "CLIP-I style"},
      {"dino_style", "DINO style"},
      {"subject", "subject"},
      {"style", "style"},
      {"harmonic", "harmonic mean"},
      {"clip_t", "CLIP-T"},
      {"truth_clip_i", "CLIP-I truth"},
      {"truth_dino", "DINO truth"},
      {"truth_distance", "distance to truth", /*smaller_is_better=*/true},
      {"mars2_subject", "MARS² subject"},
      {"mars2_style", "MARS² style"},
      {"mars2_both", "MARS² both"},
      {"hps", "HPS v2"},
      {"correct_hands", "correct hands"},
      {"correct_faces", "correct faces"},
      {"counted_hands", "number of hands"},
      {"counted_faces", "number of faces"},
  };
  return all;
}

void add_summaries(Scores& scores) {
  const auto subject = mean_of(scores, {"clip_i_subject", "dino_subject"});
  const auto style = mean_of(scores, {"clip_i_style", "dino_style"});
  if (subject) scores["subject"] = *subject;
  if (style) scores["style"] = *style;
  if (subject && style)
    scores["harmonic"] =
        *subject > 0 && *style > 0 ? 2 * *subject * *style / (*subject + *style) : 0.0;
  if (const auto truth = mean_of(scores, {"truth_clip_i", "truth_dino"}))
    scores["truth_distance"] = 1 - *truth;
}

std::vector<ScoredPicture> in_pairs(const std::vector<LabelledPicture>& pictures,
                                    const std::vector<Scores>& scores) {
  std::vector<ScoredPicture> all;
  for (size_t i = 0; i < pictures.size(); ++i)  // no name holds a line's end
    all.push_back({.method = pictures[i].method,
                   .unit = pictures[i].subject + "\n" + pictures[i].style,
                   .twin = {},
                   .scores = scores[i]});
  return all;
}

ScoreTable tabulate(const std::vector<ScoredPicture>& pictures, const TableOptions& options) {
  const std::map<std::string, MethodScores> methods = by_method(pictures);
  ScoreTable table{
      .title = options.title, .unit = options.unit, .rows = {}, .baseline = {}, .differences = {}};
  for (const auto& [name, method] : methods)
    table.rows.push_back(row_of(name, method, options.unit));
  if (!options.baseline) return table;
  const auto found = methods.find(*options.baseline);
  if (found == methods.end()) {
    std::vector<std::string> names;
    for (const auto& [name, method] : methods) names.push_back(name.empty() ? "none" : name);
    throw ConfigError(fmt::format("--baseline {}: no picture was made by it; found {}",
                                  *options.baseline, fmt::join(names, ", ")));
  }
  table.baseline = *options.baseline;
  for (const auto& [name, method] : methods)
    if (name != *options.baseline)
      table.differences.push_back(row_of(name, difference(method, found->second), options.unit));
  return table;
}

std::string markdown(const std::vector<ScoreTable>& tables) {
  std::string text;
  for (const TextTable& one : text_tables(tables)) {
    text += fmt::format("{}**{}**\n\n", text.empty() ? "" : "\n", escaped_markup(one.title, "|"));
    for (size_t i = 0; i < one.lines.size(); ++i) {
      for (const std::string& word : one.lines[i])
        text += fmt::format("| {} ", escaped_markup(word, "|"));
      text += "|\n";
      if (i > 0) continue;
      for (size_t j = 0; j < one.lines[0].size(); ++j) text += j == 0 ? "|---" : "|--:";
      text += "|\n";
    }
  }
  return text;
}

std::string html(const std::vector<ScoreTable>& tables) {
  std::string body;
  for (const TextTable& one : text_tables(tables)) {
    body += fmt::format("<h2>{}</h2>\n<table>\n", escaped_markup(one.title, "<>&\""));
    for (size_t i = 0; i < one.lines.size(); ++i) {
      const char* tag = i == 0 ? "th" : "td";
      body += "<tr>";
      for (const std::string& word : one.lines[i])
        body += fmt::format("<{0}>{1}</{0}>", tag, escaped_markup(word, "<>&\""));
      body += "</tr>\n";
    }
    body += "</table>\n";
  }
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>molar eval</title>\n"
      "<style>body{{font-family:sans-serif}}table{{border-collapse:collapse}}"
      "th,td{{padding:.3em .7em;text-align:right;border-bottom:1px solid #ccc}}"
      "th:first-child,td:first-child{{text-align:left}}</style></head>\n<body>\n{}</body></html>\n",
      body);
}

}  // namespace molar
