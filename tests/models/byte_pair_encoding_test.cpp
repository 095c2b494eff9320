#include "byte_pair_encoding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "molar/core/error.h"
#include "unicode_text.h"

namespace molar {
namespace {

TEST(BytePairEncoding, EveryByteHasASymbolOfItsOwn) {
  std::set<std::string> symbols;
  for (int byte = 0; byte < 256; ++byte) symbols.insert(byte_symbol(static_cast<uint8_t>(byte)));
  EXPECT_EQ(symbols.size(), 256U);
  EXPECT_EQ(byte_symbol('!'), "!");
  EXPECT_EQ(byte_symbol('~'), "~");
  EXPECT_EQ(byte_symbol(0), "\u0100");
  EXPECT_EQ(byte_symbol(' '), "\u0120");
  EXPECT_EQ(byte_symbol(0x7F), "\u0121");
  EXPECT_EQ(byte_symbol(0xAD), "\u0143");
  EXPECT_EQ(byte_symbol(0xFF), "\u00FF");
}

TEST(BytePairEncoding, VisibleBytesComeFirstInTheVocabulary) {
  const auto bytes = bytes_in_vocabulary_order();
  EXPECT_EQ(bytes[0], '!');
  EXPECT_EQ(bytes[93], '~');
  EXPECT_EQ(bytes[94], 0xA1);
  EXPECT_EQ(bytes[187], 0xFF);
  EXPECT_EQ(bytes[188], 0);
  EXPECT_EQ(bytes[255], 0xAD);
  EXPECT_EQ(std::set<uint8_t>(bytes.begin(), bytes.end()).size(), 256U);
}

/// A vocabulary of the letters a to d with random merges.
Vocabulary random_vocabulary(uint32_t seed) {
  std::mt19937 random(seed);
  Vocabulary vocabulary{"random", {}, {}};
  std::vector<std::string> tokens;
  const auto add = [&](const std::string& token) {
    if (vocabulary.ids.emplace(token, static_cast<int64_t>(vocabulary.ids.size())).second)
      tokens.push_back(token);
  };
  for (const char* letter : {"a", "b", "c", "d"}) {
    add(letter);
    add(std::string(letter) + "</w>");
  }
  while (vocabulary.merges.size() < 60) {
    const std::string left = tokens[random() % tokens.size()],
                      right = tokens[random() % tokens.size()];
    if (left.ends_with("</w>") || left.size() + right.size() > 12) continue;
    vocabulary.merges.emplace_back(left, right);  // some are listed twice: the last rank counts
    add(left + right);
  }
  std::ranges::shuffle(vocabulary.merges,
                       random);  // so a later merge may make a more important one possible
  return vocabulary;
}

/// The definition, word for word: join the leftmost pair of the best rank until no pair merges.
std::vector<int64_t> slow_encode(const Vocabulary& vocabulary, const std::string& word) {
  std::vector<std::string> symbols;
  for (const char letter : word) symbols.emplace_back(1, letter);
  symbols.back() += "</w>";
  while (true) {
    size_t best_rank = SIZE_MAX, best_at = 0;
    for (size_t at = 0; at + 1 < symbols.size(); ++at) {
      size_t rank = SIZE_MAX;
      for (size_t i = 0; i < vocabulary.merges.size(); ++i)
        if (vocabulary.merges[i] == std::pair(symbols[at], symbols[at + 1])) rank = i;
      if (rank < best_rank) {
        best_rank = rank;
        best_at = at;
      }
    }
    if (best_rank == SIZE_MAX) break;
    symbols[best_at] += symbols[best_at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
  std::vector<int64_t> ids;
  for (const std::string& symbol : symbols) ids.push_back(vocabulary.ids.at(symbol));
  return ids;
}

TEST(BytePairEncoding, AgreesWithItsDefinitionOnRandomVocabularies) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const Vocabulary vocabulary = random_vocabulary(seed);
    const BytePairEncoding encoding(vocabulary, /*unknown_id=*/0);
    std::mt19937 random(seed + 1000);
    for (int i = 0; i < 40; ++i) {
      std::string word(1 + random() % 20, 'a');
      for (char& letter : word) letter = static_cast<char>('a' + random() % 4);
      EXPECT_EQ(encoding.encode_word(word), slow_encode(vocabulary, word)) << seed << " " << word;
    }
  }
}

TEST(BytePairEncoding, EmptyWordHasNoIds) {
  EXPECT_TRUE(BytePairEncoding(random_vocabulary(0), 0).encode_word("").empty());
}

TEST(BytePairEncoding, UnknownBytesDoNotMerge) {
  const Vocabulary vocabulary{
      "v", {{"a", 0}, {"b</w>", 1}, {"ab</w>", 2}, {"?", 3}}, {{"a", "b</w>"}}};
  const BytePairEncoding encoding(vocabulary, /*unknown_id=*/3);
  EXPECT_EQ(encoding.encode_word("ab"), (std::vector<int64_t>{2}));
  EXPECT_EQ(encoding.encode_word("axb"), (std::vector<int64_t>{0, 3, 1}));
  EXPECT_EQ(encoding.encode_word("xx"), (std::vector<int64_t>{3, 3}));
}

TEST(BytePairEncoding, MergeOfATokenWithoutIdIsRefused) {
  const Vocabulary vocabulary{"'m.txt'", {{"a", 0}, {"b", 1}}, {{"a", "b"}}};
  try {
    BytePairEncoding encoding(vocabulary, 0);
    ADD_FAILURE() << "accepted";
  } catch (const FileError& error) {
    EXPECT_STREQ(error.what(),
                 "'m.txt': merge 1 ('a' + 'b') needs the token 'ab', which has no id");
  }
}

// ---- Unicode ----

TEST(UnicodeText, CodePointsSurviveTheRoundTrip) {
  std::u32string all;
  for (char32_t c = 0; c <= 0x10FFFF; c += 37)
    if (c < 0xD800 || c > 0xDFFF) all.push_back(c);
  EXPECT_EQ(decode_utf8(encode_utf8(all)), all);
}

TEST(UnicodeText, NormalFormIsComposedAndLowerCase) {
  EXPECT_EQ(normalize_for_clip(U"CAFE\u0301"), U"caf\u00e9");
  EXPECT_EQ(normalize_for_clip(U"\u1100\u1161\u11a8"), U"\uac01");
  EXPECT_EQ(normalize_for_clip(U"q\u0307\u0323"), U"q\u0323\u0307");
  EXPECT_EQ(normalize_for_clip(U"\u212b"), U"\u00e5");
  EXPECT_EQ(normalize_for_clip(U"\u0130"), U"i\u0307") << "two code points, not composed again";
  EXPECT_EQ(normalize_for_clip(U"\u03a3"), U"\u03c3") << "no final sigma";
  EXPECT_EQ(normalize_for_clip(U"a \t\r\n\u00a0\u3000b"), U"a b");
  EXPECT_EQ(normalize_for_clip(U"a\x1c"
                               U"b"),
            U"a\x1c"
            U"b")
      << "not white space in Unicode";
}

TEST(UnicodeText, CharactersFallIntoFourClasses) {
  EXPECT_EQ(character_class(U'a'), CharacterClass::kLetter);
  EXPECT_EQ(character_class(U'\u4e00'), CharacterClass::kLetter);
  EXPECT_EQ(character_class(U'\u02b0'), CharacterClass::kLetter);  // modifier letter
  EXPECT_EQ(character_class(U'7'), CharacterClass::kNumber);
  EXPECT_EQ(character_class(U'\u00bd'), CharacterClass::kNumber);
  EXPECT_EQ(character_class(U'\u2163'), CharacterClass::kNumber);
  EXPECT_EQ(character_class(U'\u2009'), CharacterClass::kSpace);
  EXPECT_EQ(character_class(U'\u200b'), CharacterClass::kOther);  // zero-width space is none
  EXPECT_EQ(character_class(U'_'), CharacterClass::kOther);
  EXPECT_EQ(character_class(U'\u0301'), CharacterClass::kOther);
  EXPECT_EQ(character_class(0x10FFFF), CharacterClass::kOther);
}

}  // namespace
}  // namespace molar
