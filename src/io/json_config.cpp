#include "molar/io/json_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <type_traits>
#include <unordered_set>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "molar/io/json_order.h"

namespace molar {
namespace {

constexpr uint64_t kMaxJsonBytes = 256ULL << 20;
constexpr int kMaxDepth = 64;

/// A value for a message: short, whatever the file holds.
std::string preview(const Json& value) {
  constexpr size_t kMaxLength = 80;
  if (value.is_structured() && value.size() > 16)
    return fmt::format("{} of {} values", value.is_array() ? "a list" : "an object", value.size());
  std::string text = dump_json(value);
  if (text.size() > kMaxLength) text = text.substr(0, kMaxLength) + "...";
  return text;
}

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};

template <typename T>
std::string wanted_name() {
  if constexpr (IsVector<T>::value) {
    return fmt::format("a list, each {}", wanted_name<typename T::value_type>());
  } else if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return "a whole number";
  } else if constexpr (std::is_same_v<T, double>) {
    return "a number";
  } else {
    return "a string";
  }
}

/// nullopt: the value is of another type or out of T's range.
template <typename T>
std::optional<T> convert(const Json& value) {
  if constexpr (IsVector<T>::value) {
    if (!value.is_array()) return std::nullopt;
    T items;
    for (const Json& element : value) {
      auto item = convert<typename T::value_type>(element);
      if (!item) return std::nullopt;
      items.push_back(std::move(*item));
    }
    return items;
  } else if constexpr (std::is_same_v<T, bool>) {
    return value.is_boolean() ? std::optional<T>(value.get<bool>()) : std::nullopt;
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (!value.is_number_integer()) return std::nullopt;
    constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (value.is_number_unsigned() && value.get<uint64_t>() > kMax) return std::nullopt;
    return value.get<int64_t>();
  } else if constexpr (std::is_same_v<T, double>) {
    return value.is_number() ? std::optional<T>(value.get<double>()) : std::nullopt;
  } else {
    return value.is_string() ? std::optional<T>(value.get<std::string>()) : std::nullopt;
  }
}

/// nlohmann's text without its own prefix "[json.exception.parse_error.101] parse error ".
std::string reason_of(const Json::exception& error) {
  const std::string text = error.what();
  const size_t at = text.find("at line");
  return at == std::string::npos ? text.substr(text.find(']') + 2) : text.substr(at);
}

/// Python writes a float's infinity as the bare word Infinity, which is no JSON; diffusers'
/// scheduler configs hold -Infinity. The words outside of strings become strings.
std::string quote_infinities(std::string_view text) {
  std::string quoted;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = text.substr(i);
    const std::string_view word = rest.starts_with("-Infinity") ? "-Infinity" : "Infinity";
    if (!in_string && rest.starts_with(word)) {
      quoted += fmt::format("\"{}\"", word);
      i += word.size() - 1;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    quoted += text[i];
    if (in_string && text[i] == '\\' && i + 1 < text.size()) quoted += text[++i];
  }
  return quoted;
}

/// Throws Json::exception, or FileError for what the grammar allows and we do not.
Json parse_strict_json(std::string_view text, const std::string& source) {
  if (text.find('\0') != std::string_view::npos)  // where the JSON library would stop reading
    throw FileError(fmt::format("{} is not valid JSON: it holds a NUL byte", source));
  // One set of keys per open object: nlohmann itself keeps the last of two equal keys in silence.
  std::vector<std::unordered_set<std::string>> open_objects;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        open_objects.emplace_back();
        [[fallthrough]];
      case Json::parse_event_t::array_start:
        if (depth >= kMaxDepth)
          throw FileError(fmt::format("{}: nested deeper than {} levels", source, kMaxDepth));
        break;
      case Json::parse_event_t::object_end:
        open_objects.pop_back();
        break;
      case Json::parse_event_t::key:
        if (!open_objects.back().insert(parsed.get_ref<const std::string&>()).second)
          throw FileError(fmt::format("{}: key {} appears twice", source, preview(parsed)));
        break;
      default:
        break;
    }
    return true;
  };
  return Json::parse(text.begin(), text.end(), check);
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  try {
    try {
      return parse_strict_json(text, source);
    } catch (const Json::exception&) {
      const std::string quoted = quote_infinities(text);
      if (quoted == text) throw;
      return parse_strict_json(quoted, source);
    }
  } catch (const Json::exception& error) {
    throw FileError(fmt::format("{} is not valid JSON: {}", source, reason_of(error)));
  }
}

std::string dump_json(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_file(path, kMaxJsonBytes), fmt::format("'{}'", path.string()));
}

std::vector<std::string> keys_in_file_order(std::string_view text, const std::string& name) {
  std::vector<std::string> keys;
  bool inside = false;
  const auto note_keys = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event != Json::parse_event_t::key) return true;
    if (depth == 1) inside = parsed == name;
    if (depth == 2 && inside) keys.push_back(parsed.get<std::string>());
    return true;
  };
  const Json ignored = Json::parse(quote_infinities(text), note_keys);
  return keys;
}

JsonConfig::JsonConfig(const Json& object, std::string source)
    : object_(object), source_(std::move(source)) {
  if (!object_.is_object())
    throw FileError(fmt::format("{}: wanted a JSON object, found {}", source_, preview(object_)));
}

bool JsonConfig::has(const std::string& key) const {
  read_.insert(key);
  const auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}

template <typename T>
std::optional<T> JsonConfig::get_optional(const std::string& key) const {
  if (!has(key)) return std::nullopt;
  const Json& value = object_.at(key);
  std::optional<T> converted = convert<T>(value);
  if (!converted)
    throw FileError(
        fmt::format("{}: '{}' must be {}, is {}", source_, key, wanted_name<T>(), preview(value)));
  return converted;
}

template <typename T>
T JsonConfig::get(const std::string& key) const {
  std::optional<T> value = get_optional<T>(key);
  if (!value)
    throw FileError(fmt::format("{}: '{}' is {}; wanted {}", source_, key,
                                object_.contains(key) ? "null" : "missing", wanted_name<T>()));
  return std::move(*value);
}

template <typename T>
T JsonConfig::get_or(const std::string& key, T fallback) const {
  std::optional<T> value = get_optional<T>(key);
  return value ? std::move(*value) : std::move(fallback);
}

#define MOLAR_INSTANTIATE(T)                                     \
  template T JsonConfig::get<T>(const std::string&) const;       \
  template T JsonConfig::get_or<T>(const std::string&, T) const; \
  template std::optional<T> JsonConfig::get_optional<T>(const std::string&) const;
MOLAR_INSTANTIATE(bool)
MOLAR_INSTANTIATE(int64_t)
MOLAR_INSTANTIATE(double)
MOLAR_INSTANTIATE(std::string)
MOLAR_INSTANTIATE(std::vector<bool>)
MOLAR_INSTANTIATE(std::vector<int64_t>)
MOLAR_INSTANTIATE(std::vector<double>)
MOLAR_INSTANTIATE(std::vector<std::string>)
#undef MOLAR_INSTANTIATE

std::vector<int64_t> JsonConfig::get_per_block(const std::string& key, size_t count,
                                               int64_t fallback) const {
  if (!has(key)) return std::vector<int64_t>(count, fallback);
  if (!object_.at(key).is_array()) return std::vector<int64_t>(count, get<int64_t>(key));
  std::vector<int64_t> values = get<std::vector<int64_t>>(key);
  if (values.size() != count)
    throw FileError(fmt::format("{}: '{}' must be one number or {} (one per block), has {}",
                                source_, key, count, values.size()));
  return values;
}

void JsonConfig::refuse_unread_keys() const {
  for (const auto& [key, value] : object_.items())
    if (!value.is_null() && !key.starts_with('_') && !read_.contains(key))
      throw FileError(fmt::format("{}: '{}' = {} is not a setting that molar knows", source_, key,
                                  preview(value)));
}

void JsonConfig::ignore(std::initializer_list<const char*> keys) const {
  read_.insert(keys.begin(), keys.end());
}

void JsonConfig::require_one_of(const std::string& key, const std::vector<Json>& supported) const {
  if (!has(key)) return;
  const Json& value = object_.at(key);
  if (std::find(supported.begin(), supported.end(), value) != supported.end()) return;
  std::vector<std::string> names;
  for (const Json& one : supported) names.push_back(preview(one));
  throw FileError(fmt::format("{}: '{}' is {}; molar supports {}", source_, key, preview(value),
                              fmt::join(names, ", ")));
}

}  // namespace molar
