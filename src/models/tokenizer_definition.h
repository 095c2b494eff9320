/// A CLIP tokenizer as its files describe it: vocabulary, special tokens, limits.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "byte_pair_encoding.h"

namespace molar {

/// A token that is found in the text itself, before the text is split into words.
struct AddedToken {
  std::string content;
  bool normalized = false;  ///< matched after normalisation: in any case
  int64_t id = 0;
};

struct TokenizerDefinition {
  Vocabulary vocabulary;
  std::vector<AddedToken> added_tokens;
  int64_t bos_token_id = 0, eos_token_id = 0, pad_token_id = 0, unk_token_id = 0;
};

/// From tokenizer.json, or vocab.json + merges.txt, with the special tokens of
/// tokenizer_config.json, special_tokens_map.json and added_tokens.json. `pad_token` replaces what
/// the files say; empty: does not. Throws FileError.
TokenizerDefinition read_tokenizer_folder(const std::filesystem::path& folder,
                                          const std::string& pad_token);

/// From OpenCLIP's bpe_simple_vocab_16e6.txt.gz: 256 bytes, the same as ends of words, 48,894
/// merges and two special tokens. `pad_token`: "<|endoftext|>" or "!". Throws FileError.
TokenizerDefinition read_openclip_vocabulary(const std::filesystem::path& path,
                                             const std::string& pad_token);

}  // namespace molar
