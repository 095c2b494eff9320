#include "molar/evaluation/answer_cache.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "molar/io/json_config.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

std::string json_line(const std::string& key, const std::string& answer) {
  return fmt::format("{{\"key\": {}, \"answer\": {}}}", dump_json(key), dump_json(answer));
}

}  // namespace

AnswerCache::AnswerCache(const fs::path& path) {
  if (path.empty()) return;
  journal_ = std::make_unique<LineJournal>(path);
  const LineJournal::Contents contents = journal_->read();
  if (contents.torn)
    spdlog::warn("'{}': the last line was cut off while it was written; its answer is asked again",
                 path.string());
  int64_t number = 0;
  for (const std::string& text : contents.lines) {
    const std::string source = fmt::format("{}:{}", path.string(), ++number);
    const Json line = parse_json(text, source);
    const JsonConfig fields(line, source);
    answers_.emplace(fields.get<std::string>("key"), fields.get<std::string>("answer"));
    fields.refuse_unread_keys();
  }
}

AnswerCache::~AnswerCache() = default;

std::optional<std::string> AnswerCache::find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = answers_.find(key);
  return found == answers_.end() ? std::nullopt : std::optional(found->second);
}

void AnswerCache::add(const std::string& key, const std::string& answer) {
  const std::lock_guard lock(mutex_);
  if (answers_.contains(key)) return;
  if (journal_) journal_->append(json_line(key, answer));
  answers_.emplace(key, answer);
}

}  // namespace molar
