#include "molar/evaluation/score_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "molar/core/error.h"
#include "molar/core/text.h"

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

using Pair = std::pair<std::string, std::string>;  // subject, style
using PairMeans = std::map<Pair, double>;

struct MethodScores {
  int64_t num_pictures = 0;
  std::set<Pair> pairs;
  std::map<std::string, PairMeans> means;  // name of a measure -> mean of each pair
};

std::map<std::string, MethodScores> by_method(const std::vector<LabelledPicture>& pictures,
                                              const std::vector<Scores>& scores) {
  std::map<std::string, std::map<std::string, std::map<Pair, std::vector<double>>>> values;
  std::map<std::string, MethodScores> methods;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const LabelledPicture& picture = pictures[i];
    const Pair pair{picture.subject, picture.style};
    MethodScores& method = methods[picture.method];
    ++method.num_pictures;
    method.pairs.insert(pair);
    for (const auto& [name, value] : scores[i]) values[picture.method][name][pair].push_back(value);
  }
  for (auto& [method, measured] : values)
    for (auto& [name, pairs] : measured)
      for (auto& [pair, list] : pairs) {
        double sum = 0;
        for (const double value : list) sum += value;
        methods[method].means[name][pair] = sum / static_cast<double>(list.size());
      }
  return methods;
}

Estimate estimate(const PairMeans& means) {
  const auto n = static_cast<double>(means.size());
  double sum = 0, squares = 0;
  for (const auto& [pair, value] : means) sum += value;
  for (const auto& [pair, value] : means) squares += (value - sum / n) * (value - sum / n);
  Estimate result{.mean = sum / n, .half_width = std::nullopt};
  if (means.size() > 1)
    result.half_width = student_975(std::ssize(means) - 1) * std::sqrt(squares / (n - 1) / n);
  return result;
}

TableRow row_of(const std::string& name, const MethodScores& method) {
  TableRow row{.method = name,
               .num_pictures = method.num_pictures,
               .num_pairs = std::ssize(method.pairs),
               .estimates = {}};
  for (const auto& [measure, means] : method.means) row.estimates[measure] = estimate(means);
  return row;
}

/// Only pairs that both have.
MethodScores difference(const MethodScores& method, const MethodScores& baseline) {
  MethodScores result = method;
  for (auto& [measure, means] : result.means) {
    const auto theirs = baseline.means.find(measure);
    std::erase_if(means, [&](const auto& entry) {
      return theirs == baseline.means.end() || !theirs->second.contains(entry.first);
    });
    for (auto& [pair, mean] : means) mean -= theirs->second.at(pair);
  }
  std::erase_if(result.means, [](const auto& entry) { return entry.second.empty(); });
  return result;
}

std::string cell(const TableRow& row, const Measure& measure, bool is_difference) {
  const auto found = row.estimates.find(std::string(measure.name));
  if (found == row.estimates.end()) return "–";
  const auto& [mean, half_width] = found->second;
  const std::string value =
      is_difference ? fmt::format("{:+.3f}", mean) : fmt::format("{:.3f}", mean);
  return half_width ? fmt::format("{} ± {:.3f}", value, *half_width) : value;
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

TextTable text_table(const std::string& title, const std::vector<TableRow>& rows,
                     bool is_difference) {
  const std::vector<Measure> columns = columns_of(rows);
  TextTable table{.title = title, .lines = {{"method", "pictures", "pairs"}}};
  for (const Measure& column : columns)
    table.lines[0].push_back(
        fmt::format("{} {}", column.heading, column.smaller_is_better ? "↓" : "↑"));
  for (const TableRow& row : rows) {
    std::vector<std::string> line{row.method.empty() ? "none" : row.method,
                                  std::to_string(row.num_pictures), std::to_string(row.num_pairs)};
    for (const Measure& column : columns) line.push_back(cell(row, column, is_difference));
    table.lines.push_back(std::move(line));
  }
  return table;
}

std::vector<TextTable> text_tables(const ScoreTable& table) {
  std::vector<TextTable> tables{
      text_table("Means over pairs, with 95 % intervals", table.rows, /*is_difference=*/false)};
  if (!table.differences.empty())
    tables.push_back(text_table(
        fmt::format("Differences from {}, pair by pair, with 95 % intervals", table.baseline),
        table.differences, /*is_difference=*/true));
  return tables;
}

/// Names come from folders and records.
std::string escaped(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : one_line(text, 1000)) {
    if (special.find(c) == std::string_view::npos)
      out += c;
    else
      out += fmt::format("&#{};", static_cast<int>(c));
  }
  return out;
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

ScoreTable tabulate(const std::vector<LabelledPicture>& pictures, const std::vector<Scores>& scores,
                    const std::optional<std::string>& baseline) {
  const std::map<std::string, MethodScores> methods = by_method(pictures, scores);
  ScoreTable table;
  for (const auto& [name, method] : methods) table.rows.push_back(row_of(name, method));
  if (!baseline) return table;
  const auto found = methods.find(*baseline);
  if (found == methods.end()) {
    std::vector<std::string> names;
    for (const auto& [name, method] : methods) names.push_back(name.empty() ? "none" : name);
    throw ConfigError(fmt::format("--baseline {}: no picture was made by it; found {}", *baseline,
                                  fmt::join(names, ", ")));
  }
  table.baseline = *baseline;
  for (const auto& [name, method] : methods)
    if (name != *baseline)
      table.differences.push_back(row_of(name, difference(method, found->second)));
  return table;
}

std::string markdown(const ScoreTable& table) {
  std::string text;
  for (const TextTable& one : text_tables(table)) {
    text += fmt::format("{}**{}**\n\n", text.empty() ? "" : "\n", escaped(one.title, "|"));
    for (size_t i = 0; i < one.lines.size(); ++i) {
      for (const std::string& word : one.lines[i]) text += fmt::format("| {} ", escaped(word, "|"));
      text += "|\n";
      if (i > 0) continue;
      for (size_t j = 0; j < one.lines[0].size(); ++j) text += j == 0 ? "|---" : "|--:";
      text += "|\n";
    }
  }
  return text;
}

std::string html(const ScoreTable& table) {
  std::string body;
  for (const TextTable& one : text_tables(table)) {
    body += fmt::format("<h2>{}</h2>\n<table>\n", escaped(one.title, "<>&\""));
    for (size_t i = 0; i < one.lines.size(); ++i) {
      const char* tag = i == 0 ? "th" : "td";
      body += "<tr>";
      for (const std::string& word : one.lines[i])
        body += fmt::format("<{0}>{1}</{0}>", tag, escaped(word, "<>&\""));
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
