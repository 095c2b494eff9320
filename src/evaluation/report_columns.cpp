#include "report_columns.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>

namespace molar {
namespace {

constexpr std::string_view kFirst[] = {"prompt", "negative-prompt", "subject", "style",
                                       "lora",   "merge",           "seed",    "cfg-scale",
                                       "steps",  "sampler"};
/// Every picture of a row is one picture, and how a file lies on a disk is no choice.
constexpr std::string_view kLeftOut[] = {"count"};
constexpr std::string_view kFiles[] = {"init-image", "mask", "hypernet", "coefficients", "mole"};
constexpr std::string_view kExtensions[] = {".safetensors", ".png", ".jpg", ".jpeg"};

bool is_one_of(std::string_view name, auto& names) {
  return std::ranges::find(names, name) != std::end(names);
}

/// A folder's name may hold a dot ("sd-1.5").
std::string stem(const std::string& path) {
  const std::filesystem::path name = std::filesystem::path(path + "/x").parent_path().filename();
  return (is_one_of(name.extension().string(), kExtensions) ? name.stem() : name).string();
}

/// "face,0,0,32,32" has no better words than its JSON.
std::string text_of(const Json& value, bool is_file) {
  if (value.is_string()) return is_file ? stem(value.get<std::string>()) : value.get<std::string>();
  if (value.is_array()) {
    std::vector<std::string> parts;
    for (const Json& part : value) parts.push_back(text_of(part, is_file));
    return fmt::format("{}", fmt::join(parts, ", "));
  }
  if (!value.is_object()) return dump_json(value);
  for (const auto& [name, mark] : {std::pair{"file", '@'}, std::pair{"name", '='}}) {
    if (!value.contains(name) || !value[name].is_string()) continue;
    std::string text = stem(value[name].get<std::string>());
    if (const Json weight = value.value("weight", Json(1.0)); weight != 1.0 || mark == '=')
      text += mark + dump_json(weight);
    if (value.contains("blocks")) text += ":" + text_of(value["blocks"], false);
    return text;
  }
  return dump_json(value);
}

}  // namespace

ColumnValues request_columns(const Json& request) {
  ColumnValues columns;
  if (!request.is_object()) return columns;
  for (const auto& [name, value] : request.items())
    if (!is_one_of(name, kLeftOut)) columns[name] = text_of(value, is_one_of(name, kFiles));
  return columns;
}

ColumnValues record_columns(const Json& record) {
  if (!record.is_object()) return {};
  ColumnValues columns = request_columns(record.value("request", Json()));
  for (const char* name : {"merge", "sampler"})
    if (record.contains(name) && record[name].is_string())
      columns[name] = record[name].get<std::string>();
  // Belongs to the method: a column of its own would keep methods with and without one apart.
  for (const char* name : {"hypernet", "coefficients"})
    if (const auto file = columns.find(name); file != columns.end() && !columns["merge"].empty()) {
      columns["merge"] += fmt::format(" ({})", file->second);
      columns.erase(file);
    }
  static const Json::json_pointer kModel("/model/path");
  if (record.contains(kModel) && record[kModel].is_string())
    columns["model"] = stem(record[kModel].get<std::string>());
  return columns;
}

std::vector<std::string> column_order(const std::vector<ColumnValues>& rows) {
  std::set<std::string> names;
  for (const ColumnValues& row : rows)
    for (const auto& [name, value] : row) names.insert(name);
  std::vector<std::string> order;
  for (const std::string_view name : kFirst)
    if (names.erase(std::string(name)) > 0) order.emplace_back(name);
  order.insert(order.end(), names.begin(), names.end());
  return order;
}

}  // namespace molar
