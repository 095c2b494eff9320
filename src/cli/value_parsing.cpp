#include "value_parsing.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "molar/core/text.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void refuse(const std::string& option, const std::string& text,
                         const std::string& wanted) {
  throw ConfigError(fmt::format("{} '{}': wanted {}", option, text, wanted));
}

/// The whole text as a number, nullopt where it is none or does not fit.
template <typename T>
std::optional<T> read_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);  // from_chars takes no plus sign
  if (text.starts_with('+') || text.empty()) return std::nullopt;
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> read_finite(std::string_view text) {
  const auto value = read_number<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

template <typename T>
T parse_choice(const std::string& option, const std::string& text,
               const std::vector<std::pair<std::string, T>>& choices) {
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    names.push_back(name);
  }
  refuse(option, text, fmt::format("{}{}", fmt::join(names, ", "), suggestion(text, names)));
}

}  // namespace

template <>
std::string parse_value(const std::string& option, const std::string& text) {
  // The record is JSON and the tokenizer reads code points: other bytes would not come back as
  // written.
  if (valid_utf8(text) != text || text.find('\0') != std::string::npos)
    throw InputError(fmt::format("{}: wanted UTF-8 text without NUL, found other bytes", option));
  return text;
}

template <>
fs::path parse_value(const std::string& option, const std::string& text) {
  if (text.empty()) refuse(option, text, "a path");
  return text;
}

template <>
int64_t parse_value(const std::string& option, const std::string& text) {
  const auto value = read_number<int64_t>(text);
  if (!value) refuse(option, text, "a whole number");
  return *value;
}

template <>
uint64_t parse_value(const std::string& option, const std::string& text) {
  const auto value = read_number<uint64_t>(text);
  if (!value)
    refuse(option, text,
           fmt::format("a whole number from 0 to {}", std::numeric_limits<uint64_t>::max()));
  return *value;
}

template <>
double parse_value(const std::string& option, const std::string& text) {
  const auto value = read_finite(text);
  if (!value) refuse(option, text, "a finite number such as 7.5");
  return *value;
}

template <>
bool parse_value(const std::string& option, const std::string& text) {
  return parse_choice<bool>(option, text,
                            {{"true", true},
                             {"false", false},
                             {"1", true},
                             {"0", false},
                             {"on", true},
                             {"off", false},
                             {"yes", true},
                             {"no", false}});
}

template <>
LoraUse parse_value(const std::string& option, const std::string& text) {
  if (text.empty()) refuse(option, text, "FILE or FILE@STRENGTH");
  const size_t at = text.rfind('@');
  if (at == std::string::npos) return {text, 1.0};
  const std::string file = text.substr(0, at), strengths = text.substr(at + 1);
  const size_t colon = strengths.find(':');
  const std::string strength = strengths.substr(0, colon);
  std::error_code ignored;  // a name that cannot be looked up is no file; opening it says why
  const bool file_exists = fs::exists(file, ignored), whole_exists = fs::exists(text, ignored);
  if (const auto weight = read_finite(strength); weight && (file_exists || !whole_exists)) {
    if (file.empty()) refuse(option, text, "a file before '@'");
    if (colon == std::string::npos) return {file, *weight};
    return {file, *weight, parse_block_strengths(strengths.substr(colon + 1))};
  }
  if (file_exists && !whole_exists)
    refuse(option, text,
           fmt::format("a finite number as strength after '@', such as {}@0.8", file));
  return {text, 1.0};
}

template <>
ExpertStrength parse_value(const std::string& option, const std::string& text) {
  const size_t equals = text.find('=');
  const auto weight =
      equals == std::string::npos ? std::nullopt : read_finite(text.substr(equals + 1));
  if (!weight || equals == 0) refuse(option, text, "NAME=STRENGTH, such as face=0.8");
  return {parse_value<std::string>(option, text.substr(0, equals)), *weight};
}

template <>
ExpertRegion parse_value(const std::string& option, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    refuse(option, text, "NAME=x,y,width,height, NAME=MASK.png or NAME=auto");
  const std::string where = text.substr(equals + 1);
  ExpertRegion region{parse_value<std::string>(option, text.substr(0, equals)), FoundByGates{}};
  if (where == "auto") return region;
  if (where.find_first_not_of("0123456789,-+ ") != std::string::npos) {
    region.where = fs::path(where);
    return region;
  }
  std::vector<int64_t> numbers;
  for (size_t start = 0; start <= where.size();) {
    const size_t comma = std::min(where.find(',', start), where.size());
    const auto number = read_number<int64_t>(where.substr(start, comma - start));
    if (!number) break;
    numbers.push_back(*number);
    start = comma + 1;
  }
  if (numbers.size() != 4 || std::ranges::count(where, ',') != 3)
    refuse(option, text, "four whole numbers, x,y,width,height in pixels");
  region.where = PixelBox{numbers[0], numbers[1], numbers[2], numbers[3]};
  return region;
}

template <>
PromptSyntax parse_value(const std::string& option, const std::string& text) {
  return parse_choice<PromptSyntax>(
      option, text, {{"a1111", PromptSyntax::kA1111}, {"plain", PromptSyntax::kPlain}});
}

template <>
OnExist parse_value(const std::string& option, const std::string& text) {
  return parse_choice<OnExist>(option, text,
                               {{"number", OnExist::kNumber},
                                {"skip", OnExist::kSkip},
                                {"overwrite", OnExist::kOverwrite},
                                {"error", OnExist::kError}});
}

template <>
ProgressStyle parse_value(const std::string& option, const std::string& text) {
  return parse_choice<ProgressStyle>(option, text,
                                     {{"auto", ProgressStyle::kAuto},
                                      {"bar", ProgressStyle::kBar},
                                      {"plain", ProgressStyle::kPlain},
                                      {"none", ProgressStyle::kNone}});
}

template <>
PromptListFormat parse_value(const std::string& option, const std::string& text) {
  return parse_choice<PromptListFormat>(option, text,
                                        {{"csv", PromptListFormat::kCsv},
                                         {"jsonl", PromptListFormat::kJsonLines},
                                         {"txt", PromptListFormat::kText}});
}

template <>
Shard parse_value(const std::string& option, const std::string& text) {
  const size_t slash = std::min(text.find('/'), text.size());
  const auto index = read_number<int64_t>(std::string_view(text).substr(0, slash));
  const auto count =
      read_number<int64_t>(std::string_view(text).substr(std::min(slash + 1, text.size())));
  if (!index || !count || *index < 0 || *index >= *count)
    refuse(option, text, "I/N with 0 <= I < N, such as 0/4 for the first of four");
  return {*index, *count};
}

std::vector<std::string> comma_separated(const std::vector<std::string>& lists) {
  std::vector<std::string> names;
  for (const std::string& list : lists) {
    std::istringstream parts(list);
    for (std::string name; std::getline(parts, name, ',');) names.push_back(name);
  }
  return names;
}

}  // namespace molar::cli
