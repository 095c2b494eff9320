/// tokenizer.json of the tokenizers library, where it describes CLIP's tokenizer.
#pragma once

#include <filesystem>

#include "byte_pair_encoding.h"
#include "molar/io/json_config.h"

namespace molar {

struct TokenizerJson {
  Vocabulary vocabulary;
  Json added_tokens;  ///< a list of objects with "id" and "content"
};

/// Throws FileError that names the first setting in which the tokenizer differs from CLIP's.
TokenizerJson read_tokenizer_json(const std::filesystem::path& path);

/// Symbol -> id from vocab.json or tokenizer.json's model. Throws FileError: not an object, ids
/// that are not whole numbers in [0, 2^31).
std::unordered_map<std::string, int64_t> read_vocabulary_ids(const Json& ids,
                                                             const std::string& source);

}  // namespace molar
