/// Byte-level byte-pair encoding of single words.
/// Source: Sennrich et al. 2016, arXiv:1508.07909; the byte alphabet is GPT-2's.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace molar {

/// What a tokenizer's files say: symbols with their ids, and merges, most important first.
struct Vocabulary {
  std::string source;  ///< the file, for messages
  std::unordered_map<std::string, int64_t> ids;
  std::vector<std::pair<std::string, std::string>> merges;
};

/// The printable character that stands for a byte in vocabularies, as UTF-8.
std::string byte_symbol(uint8_t byte);
/// Bytes in the order in which OpenAI's vocabulary numbers their symbols.
std::array<uint8_t, 256> bytes_in_vocabulary_order();
/// What the last symbol of a word carries.
inline constexpr std::string_view kEndOfWord = "</w>";

class BytePairEncoding {
 public:
  /// `unknown_id` stands for each byte whose symbol the vocabulary lacks. Throws FileError where a
  /// merge takes or makes a symbol that has no id.
  BytePairEncoding(const Vocabulary& vocabulary, int64_t unknown_id);

  /// Ids of one word's bytes. Repeatedly joins the pair whose merge comes first in the list, the
  /// leftmost of several, until none is left; O(n log n).
  std::vector<int64_t> encode_word(std::string_view bytes) const;

 private:
  struct Merge {
    size_t rank;
    int64_t merged_id;
  };
  /// nullptr: the pair does not merge.
  const Merge* find_merge(int64_t left, int64_t right) const;

  std::array<int64_t, 256> inner_ids_, last_ids_;  // of a byte inside a word, and at its end
  std::unordered_map<uint64_t, Merge> merges_;     // key: left id, right id
};

}  // namespace molar
