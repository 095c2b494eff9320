/// A class's own fields of scheduler_config.json, read as diffusers reads them.
#pragma once

#include <string>
#include <vector>

#include "molar/schedulers/scheduler.h"

namespace molar {

/// Keeps its own view of `config`, which must outlive it. Every method throws FileError that names
/// the file, the field, what was wanted and what was found.
class OwnFields {
 public:
  explicit OwnFields(const SchedulerConfig& config);

  /// null reads as false, as Python does.
  bool flag(const std::string& key, bool fallback) const;
  int64_t whole(const std::string& key, int64_t fallback, int64_t least, int64_t most) const;
  double number(const std::string& key, double fallback) const;  ///< finite
  std::optional<double> optional_positive(const std::string& key) const;
  /// Python writes minus infinity as -Infinity; the reader of JSON hands it on as that word.
  double number_or_infinity(const std::string& key, double fallback) const;
  std::string word(const std::string& key, const std::string& fallback,
                   const std::vector<std::string>& supported) const;
  /// A feature that we do not have: any value but null and those given is refused.
  void refuse_unless(const std::string& key, const std::vector<Json>& supported) const;
  std::vector<int64_t> whole_list(const std::string& key) const;
  /// For combinations: "<file>: '<key>' ...".
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;

 private:
  Json fields_;  // an object, empty where the config was made by hand
  std::string source_;
  JsonConfig view_;
};

/// config.source, or "scheduler_config.json".
std::string source_of(const SchedulerConfig& config);

}  // namespace molar
