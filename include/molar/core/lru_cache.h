/// Values that are kept while they fit into a limit of memory, the latest used the longest.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace molar {

/// For one thread. Values are shared: one that falls out lives as long as somebody has it.
template <typename Value>
class LruCache {
 public:
  explicit LruCache(int64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  /// Null where the key is not, or no longer, there. Counts as a use.
  std::shared_ptr<const Value> find(const std::string& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->value;
  }

  /// Replaces a value of the same key. One that is larger than the whole limit is not kept.
  std::shared_ptr<const Value> insert(const std::string& key, std::shared_ptr<const Value> value,
                                      int64_t bytes) {
    if (const auto found = index_.find(key); found != index_.end()) erase(found->second);
    if (bytes > capacity_bytes_) return value;
    entries_.push_front({key, value, bytes});
    index_[key] = entries_.begin();
    bytes_ += bytes;
    while (bytes_ > capacity_bytes_) erase(std::prev(entries_.end()));
    return value;
  }

  int64_t bytes() const { return bytes_; }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Value> value;
    int64_t bytes;
  };
  using Place = typename std::list<Entry>::iterator;

  void erase(Place entry) {
    bytes_ -= entry->bytes;
    index_.erase(entry->key);
    entries_.erase(entry);
  }

  int64_t capacity_bytes_, bytes_ = 0;
  std::list<Entry> entries_;  // latest used first
  std::map<std::string, Place> index_;
};

}  // namespace molar
