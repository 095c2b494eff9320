/// CLIP's byte-level BPE tokenizer: the ids that transformers' CLIPTokenizer gives.
/// Source: Radford et al. 2021, arXiv:2103.00020; behaviour: transformers 5, tokenization_clip.py.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "molar/io/checkpoint.h"

namespace molar {

/// Immutable after `load`; copies share the vocabulary. Safe to use from several threads.
class CLIPTokenizer {
 public:
  /// The one length of what a text encoder reads: BOS, EOS and padding included. Folders that say
  /// another are refused.
  static constexpr int64_t kModelMaxLength = 77;

  /// Reads a folder (tokenizer.json, or vocab.json and merges.txt; tokenizer_config.json,
  /// special_tokens_map.json and added_tokens.json where present) or OpenCLIP's vocabulary file.
  /// Throws FileError: a file that is missing or broken, a tokenizer that is not CLIP's.
  static CLIPTokenizer load(const TokenizerFiles& files);

  /// Ids of `text` (UTF-8) without BOS, EOS and padding, of any length. The text is brought to NFC
  /// and lower case first; special tokens spelled in it become their ids, as in transformers: where
  /// the padding token is `!`, every `!` is one. Differs from reference: text that is not UTF-8 is
  /// an InputError that names the byte.
  std::vector<int64_t> encode(std::string_view text) const;

  int64_t bos_token_id() const;
  int64_t eos_token_id() const;
  int64_t pad_token_id() const;
  /// One past the largest id.
  int64_t vocab_size() const;

 private:
  class Impl;
  explicit CLIPTokenizer(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace molar
