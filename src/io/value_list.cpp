#include "molar/io/value_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <set>

#include "molar/core/error.h"
#include "molar/io/csv.h"

namespace molar {
namespace {

constexpr size_t kMaxDigits = 12;  // of a number in a range: any of its steps fits 64 bits

/// A decimal number as digits times 10^-decimals.
struct Decimal {
  int64_t digits = 0;
  size_t decimals = 0;

  int64_t at(size_t more_decimals) const {
    int64_t value = digits;
    for (size_t i = decimals; i < more_decimals; ++i) value *= 10;
    return value;
  }
};

/// nullopt for anything but [+-]digits[.digits].
std::optional<Decimal> read_decimal(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  if (point < text.size()) digits += text.substr(point + 1);
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  if (digits.size() > kMaxDigits) return std::nullopt;
  Decimal number{.decimals = point < text.size() ? text.size() - point - 1 : 0};
  std::from_chars(digits.data(), digits.data() + digits.size(), number.digits);
  if (negative) number.digits = -number.digits;
  return number;
}

std::string decimal_text(int64_t digits, size_t decimals) {
  const std::string text = fmt::format("{:0{}}", std::abs(digits), decimals + 1);
  const std::string_view whole(text.data(), text.size() - decimals);
  return fmt::format("{}{}{}{}", digits < 0 ? "-" : "", whole, decimals > 0 ? "." : "",
                     std::string_view(text).substr(whole.size()));
}

std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(':', start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

[[noreturn]] void refuse_count(const std::string& source, size_t count, size_t max_values) {
  throw ConfigError(fmt::format("{}: {} values; the most is {}", source, count, max_values));
}

/// nullopt: no range, but a value that may hold colons.
std::optional<std::vector<std::string>> read_range(std::string_view text, const std::string& source,
                                                   size_t max_values) {
  const std::vector<std::string_view> parts = parts_of(text);
  std::vector<Decimal> numbers;
  size_t decimals = 0;
  for (const std::string_view part : parts) {
    const auto number = read_decimal(part);
    if (!number) return std::nullopt;
    decimals = std::max(decimals, number->decimals);
    numbers.push_back(*number);
  }
  if (numbers.size() == 1) return std::nullopt;
  if (numbers.size() != 3)
    throw ConfigError(fmt::format("{}: wanted FIRST:LAST:STEP, such as 0.4:1.2:0.2", source));
  if (decimals > kMaxDigits / 2) return std::nullopt;
  const int64_t first = numbers[0].at(decimals), last = numbers[1].at(decimals),
                step = numbers[2].at(decimals);
  if (step == 0) throw ConfigError(fmt::format("{}: the step is 0", source));
  if (first != last && (last > first) != (step > 0))
    throw ConfigError(
        fmt::format("{}: the step leads away from {}, so the range is empty", source, parts[1]));
  const auto count = static_cast<size_t>((last - first) / step) + 1;
  if (count > max_values) refuse_count(source, count, max_values);
  std::vector<std::string> values;
  for (size_t i = 0; i < count; ++i)
    values.push_back(decimal_text(first + static_cast<int64_t>(i) * step, decimals));
  return values;
}

/// A message about a CSV row, without the place in a file that is none.
std::vector<CsvRow> read_cells(std::string_view text, const std::string& source) try {
  return parse_csv(text, "values");
} catch (const Error& error) {
  throw ConfigError(fmt::format("{}: {}", source, error.what()));
}

}  // namespace

std::vector<std::string> parse_value_list(std::string_view text, const std::string& source,
                                          size_t max_values) {
  if (auto range = read_range(text, source, max_values)) return *range;
  const std::vector<CsvRow> rows = read_cells(text, source);
  if (rows.size() > 1)
    throw ConfigError(fmt::format("{}: a value with a line break needs quotes", source));
  std::vector<std::string> values;
  if (!rows.empty())
    for (const CsvCell& cell : rows.front()) values.push_back(cell.text);
  if (values.empty())
    throw ConfigError(
        fmt::format("{}: no values; wanted some, as in 1,2,3 or 0.4:1.2:0.2", source));
  if (values.size() > max_values) refuse_count(source, values.size(), max_values);
  std::set<std::string_view> known;
  for (const std::string& value : values) {
    if (value.empty()) throw ConfigError(fmt::format("{}: an empty value", source));
    if (!known.insert(value).second)
      throw ConfigError(fmt::format("{}: '{}' stands twice", source, value));
  }
  return values;
}

}  // namespace molar
