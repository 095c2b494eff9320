#include "byte_pair_encoding.h"

#include <fmt/format.h>

#include <algorithm>
#include <queue>
#include <tuple>

#include "molar/core/error.h"
#include "unicode_text.h"

namespace molar {
namespace {

/// Bytes whose symbol is the Latin-1 character itself; the others are numbered from U+0100 on.
bool is_printable(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

uint64_t pair_key(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

int64_t merge_symbol_id(const Vocabulary& vocabulary, const std::string& symbol, size_t rank) {
  const auto found = vocabulary.ids.find(symbol);
  if (found == vocabulary.ids.end())
    throw FileError(fmt::format("{}: merge {} ('{}' + '{}') needs the token '{}', which has no id",
                                vocabulary.source, rank + 1, vocabulary.merges[rank].first,
                                vocabulary.merges[rank].second, symbol));
  return found->second;
}

}  // namespace

std::array<uint8_t, 256> bytes_in_vocabulary_order() {
  std::array<uint8_t, 256> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  std::ranges::stable_partition(bytes, is_printable);
  return bytes;
}

std::string byte_symbol(uint8_t byte) {
  char32_t character = byte;
  if (!is_printable(byte)) {
    character = 0x100;
    for (int other = 0; other < byte; ++other) character += is_printable(other) ? 0 : 1;
  }
  return encode_utf8({&character, 1});
}

BytePairEncoding::BytePairEncoding(const Vocabulary& vocabulary, int64_t unknown_id) {
  const auto id_or_unknown = [&](const std::string& symbol) {
    const auto found = vocabulary.ids.find(symbol);
    return found == vocabulary.ids.end() ? unknown_id : found->second;
  };
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::string symbol = byte_symbol(static_cast<uint8_t>(byte));
    inner_ids_[byte] = id_or_unknown(symbol);
    last_ids_[byte] = id_or_unknown(symbol + std::string(kEndOfWord));
  }
  merges_.reserve(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const auto& [left, right] = vocabulary.merges[rank];
    const int64_t left_id = merge_symbol_id(vocabulary, left, rank);
    const int64_t right_id = merge_symbol_id(vocabulary, right, rank);
    // A pair that is listed twice has its last rank, as in tokenizers.
    merges_.insert_or_assign(pair_key(left_id, right_id),
                             Merge{rank, merge_symbol_id(vocabulary, left + right, rank)});
  }
}

const BytePairEncoding::Merge* BytePairEncoding::find_merge(int64_t left, int64_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

std::vector<int64_t> BytePairEncoding::encode_word(std::string_view bytes) const {
  // A doubly linked list over the bytes; a symbol that was joined to its left neighbour has id -1.
  struct Symbol {
    int64_t id;
    size_t previous, next;
  };
  const size_t count = bytes.size();
  std::vector<Symbol> symbols(count);
  for (size_t i = 0; i < count; ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    symbols[i] = {i + 1 == count ? last_ids_[byte] : inner_ids_[byte], i - 1, i + 1};
  }

  using Candidate = std::tuple<size_t, size_t, int64_t>;  // rank, position, merged id
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto consider = [&](size_t left) {
    if (left >= count || symbols[left].next >= count) return;
    if (const Merge* merge = find_merge(symbols[left].id, symbols[symbols[left].next].id))
      candidates.emplace(merge->rank, left, merge->merged_id);
  };
  for (size_t i = 0; i < count; ++i) consider(i);

  while (!candidates.empty()) {
    const auto [rank, left, merged_id] = candidates.top();
    candidates.pop();
    Symbol& symbol = symbols[left];
    if (symbol.id < 0 || symbol.next >= count) continue;
    // The pair may have changed since it was considered.
    const Merge* merge = find_merge(symbol.id, symbols[symbol.next].id);
    if (!merge || merge->rank != rank) continue;
    Symbol& absorbed = symbols[symbol.next];
    symbol.id = merged_id;
    symbol.next = absorbed.next;
    absorbed.id = -1;
    if (symbol.next < count) symbols[symbol.next].previous = left;
    consider(symbol.previous);
    consider(left);
  }

  std::vector<int64_t> ids;
  for (const Symbol& symbol : symbols)
    if (symbol.id >= 0) ids.push_back(symbol.id);
  return ids;
}

}  // namespace molar
