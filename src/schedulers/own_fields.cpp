#include "own_fields.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "molar/core/error.h"

namespace molar {

std::string source_of(const SchedulerConfig& config) {
  return config.source.empty() ? "scheduler_config.json" : config.source;
}

OwnFields::OwnFields(const SchedulerConfig& config)
    : fields_(config.raw.is_null() ? Json::object() : config.raw),
      source_(source_of(config)),
      view_(fields_, source_) {}

bool OwnFields::flag(const std::string& key, bool fallback) const {
  if (fields_.contains(key) && fields_.at(key).is_null()) return false;
  return view_.get_or<bool>(key, fallback);
}

int64_t OwnFields::whole(const std::string& key, int64_t fallback, int64_t least,
                         int64_t most) const {
  const auto value = view_.get_or<int64_t>(key, fallback);
  if (value < least || value > most)
    refuse(key, fmt::format("must be in [{}, {}], is {}", least, most, value));
  return value;
}

double OwnFields::number(const std::string& key, double fallback) const {
  const auto value = view_.get_or<double>(key, fallback);
  if (!std::isfinite(value)) refuse(key, fmt::format("must be finite, is {}", value));
  return value;
}

std::optional<double> OwnFields::optional_positive(const std::string& key) const {
  if (!view_.has(key)) return std::nullopt;
  const double value = number(key, 0.0);
  if (value <= 0.0) refuse(key, fmt::format("must be above 0, is {}", value));
  return value;
}

double OwnFields::number_or_infinity(const std::string& key, double fallback) const {
  if (view_.has(key) && fields_.at(key).is_string()) {
    const auto text = fields_.at(key).get<std::string>();
    if (text != "-Infinity")
      refuse(key, fmt::format("must be a number or -Infinity, is \"{}\"", text));
    return -std::numeric_limits<double>::infinity();
  }
  return view_.get_or<double>(key, fallback);
}

std::string OwnFields::word(const std::string& key, const std::string& fallback,
                            const std::vector<std::string>& supported) const {
  refuse_unless(key, std::vector<Json>(supported.begin(), supported.end()));
  return view_.get_or<std::string>(key, fallback);
}

void OwnFields::refuse_unless(const std::string& key, const std::vector<Json>& supported) const {
  view_.require_one_of(key, supported);
}

std::vector<int64_t> OwnFields::whole_list(const std::string& key) const {
  return view_.get_or<std::vector<int64_t>>(key, {});
}

void OwnFields::refuse(const std::string& key, const std::string& why) const {
  throw FileError(fmt::format("{}: '{}' {}", source_, key, why));
}

}  // namespace molar
