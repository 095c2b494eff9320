#include "molar/models/clip_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>

#include "byte_pair_encoding.h"
#include "molar/core/error.h"
#include "tokenizer_definition.h"
#include "unicode_text.h"

namespace molar {
namespace {

using TextView = std::u32string_view;

/// Tokens that are found in the text as they stand; at one place the longest wins.
class TokenMatcher {
 public:
  void add(std::u32string content, int64_t id) { tokens_.push_back({std::move(content), id}); }

  /// Call once, after the last `add`.
  void finish() {
    std::ranges::stable_sort(tokens_, std::greater<>(),
                             [](const Token& token) { return token.content.size(); });
  }

  /// Calls on_text for the stretches between tokens and on_token for tokens, from left to right.
  void split(TextView text, const std::function<void(TextView)>& on_text,
             const std::function<void(int64_t)>& on_token) const {
    size_t start = 0;
    for (size_t position = 0; position < text.size();) {
      const TextView rest = text.substr(position);
      const auto token = std::ranges::find_if(
          tokens_, [&](const Token& candidate) { return rest.starts_with(candidate.content); });
      if (token == tokens_.end()) {
        ++position;
        continue;
      }
      if (position > start) on_text(text.substr(start, position - start));
      on_token(token->id);
      position += token->content.size();
      start = position;
    }
    if (start < text.size()) on_text(text.substr(start));
  }

 private:
  struct Token {
    std::u32string content;
    int64_t id;
  };
  std::vector<Token> tokens_;
};

/// Calls `on_word` for each word of normalised text. The alternatives of transformers' expression
///   <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
/// in its order; GPT-2's expression then splits the first two at their letters.
void split_words(TextView text, const std::function<void(TextView)>& on_word) {
  static constexpr TextView kMarkers[] = {U"<|startoftext|>", U"<|endoftext|>"};
  static constexpr TextView kContractions[] = {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"};
  const auto prefix_of = [](TextView rest, const auto& candidates) -> size_t {
    for (const TextView candidate : candidates)
      if (rest.starts_with(candidate)) return candidate.size();
    return 0;
  };
  const auto run_length = [](TextView rest, CharacterClass wanted) {
    const auto end = std::ranges::find_if(
        rest, [&](char32_t character) { return character_class(character) != wanted; });
    return static_cast<size_t>(end - rest.begin());
  };

  while (!text.empty()) {
    size_t length = 1;
    if (const size_t marker = prefix_of(text, kMarkers)) {
      on_word(text.substr(0, 2));
      on_word(text.substr(2, marker - 4));
      on_word(text.substr(marker - 2, 2));
      length = marker;
    } else if (const size_t contraction = prefix_of(text, kContractions)) {
      on_word(text.substr(0, contraction));
      length = contraction;
    } else if (const CharacterClass kind = character_class(text.front());
               kind != CharacterClass::kSpace) {
      if (kind != CharacterClass::kNumber) length = run_length(text, kind);  // digits stand alone
      on_word(text.substr(0, length));
    }
    text.remove_prefix(length);
  }
}

}  // namespace

class CLIPTokenizer::Impl {
 public:
  explicit Impl(TokenizerDefinition definition)
      : bos_token_id(definition.bos_token_id),
        eos_token_id(definition.eos_token_id),
        pad_token_id(definition.pad_token_id),
        words_(definition.vocabulary, definition.unk_token_id) {
    for (const AddedToken& token : definition.added_tokens) {
      const std::u32string content = decode_utf8(token.content);
      if (token.normalized)
        normalized_tokens_.add(normalize_for_clip(content), token.id);
      else
        literal_tokens_.add(content, token.id);
      vocab_size = std::max(vocab_size, token.id + 1);
    }
    literal_tokens_.finish();
    normalized_tokens_.finish();
    for (const auto& [symbol, id] : definition.vocabulary.ids)
      vocab_size = std::max(vocab_size, id + 1);
  }

  std::vector<int64_t> encode(std::string_view text) const {
    std::vector<int64_t> ids;
    const auto add_id = [&](int64_t id) { ids.push_back(id); };
    const auto add_word = [&](TextView word) {
      const std::vector<int64_t> word_ids = words_.encode_word(encode_utf8(word));
      ids.insert(ids.end(), word_ids.begin(), word_ids.end());
    };
    const auto add_normalized_text = [&](TextView piece) { split_words(piece, add_word); };
    const auto add_text = [&](TextView piece) {
      normalized_tokens_.split(normalize_for_clip(piece), add_normalized_text, add_id);
    };
    literal_tokens_.split(decode_utf8(text), add_text, add_id);
    return ids;
  }

  int64_t bos_token_id, eos_token_id, pad_token_id;
  int64_t vocab_size = 0;

 private:
  BytePairEncoding words_;
  TokenMatcher literal_tokens_, normalized_tokens_;
};

CLIPTokenizer::CLIPTokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

CLIPTokenizer CLIPTokenizer::load(const TokenizerFiles& files) {
  if (!files.folder.empty())
    return CLIPTokenizer(
        std::make_shared<const Impl>(read_tokenizer_folder(files.folder, files.pad_token)));
  if (!files.vocabulary.empty())
    return CLIPTokenizer(
        std::make_shared<const Impl>(read_openclip_vocabulary(files.vocabulary, files.pad_token)));
  throw FileError(
      "this checkpoint brings no tokenizer: give a tokenizer folder, or OpenCLIP's "
      "bpe_simple_vocab_16e6.txt.gz");
}

std::vector<int64_t> CLIPTokenizer::encode(std::string_view text) const {
  return impl_->encode(text);
}

int64_t CLIPTokenizer::bos_token_id() const { return impl_->bos_token_id; }
int64_t CLIPTokenizer::eos_token_id() const { return impl_->eos_token_id; }
int64_t CLIPTokenizer::pad_token_id() const { return impl_->pad_token_id; }
int64_t CLIPTokenizer::vocab_size() const { return impl_->vocab_size; }

}  // namespace molar
