#include "tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "molar/core/error.h"

namespace molar {
namespace {

/// Refuses `found` unless it is one of `wanted`; both are parts of tokenizer.json.
void require_part(const Json& object, const std::string& key, const std::vector<Json>& wanted,
                  const std::string& source) {
  const Json found = object.contains(key) ? object.at(key) : Json();
  if (std::ranges::find(wanted, found) != wanted.end()) return;
  std::string text = dump_json(found);
  if (text.size() > 120) text = text.substr(0, 120) + "...";
  throw FileError(
      fmt::format("{}: '{}' differs from CLIP's, is {}; only CLIP tokenizers are supported", source,
                  key, text));
}

Json clip_normalizer() {
  return Json::parse(R"({"type": "Sequence", "normalizers": [
    {"type": "NFC"},
    {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
    {"type": "Lowercase"}]})");
}

/// transformers 5 spells the special tokens at the front of the pattern, version 4 does not; ids
/// are those of version 5 either way, which puts its own pattern in place of the file's.
std::vector<Json> clip_pre_tokenizers() {
  const std::string words = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
  std::vector<Json> accepted;
  for (const std::string& pattern : {words, R"(<\|startoftext\|>|<\|endoftext\|>|)" + words}) {
    const Json split = {{"type", "Split"},
                        {"pattern", {{"Regex", pattern}}},
                        {"behavior", "Removed"},
                        {"invert", true}};
    for (const bool says_use_regex :
         {true, false}) {  // tokenizers before 0.13 do not write the key
      Json byte_level = {
          {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
      if (says_use_regex) byte_level["use_regex"] = true;
      accepted.push_back({{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}});
    }
  }
  return accepted;
}

/// Which part of a template's list of pieces `piece` is: "SpecialToken", "Sequence", or "" for
/// neither.
std::string template_part(const Json& piece) {
  return piece.is_object() && piece.size() == 1 ? piece.begin().key() : "";
}

/// BOS before and EOS after the text, said in either of two ways; absent means the same.
void check_post_processor(const Json& post_processor, const std::string& source) {
  if (post_processor.is_null()) return;
  const JsonConfig config(post_processor, source + ": post_processor");
  config.require_one_of("type", {"RobertaProcessing", "TemplateProcessing"});
  if (config.get<std::string>("type") != "TemplateProcessing") return;
  std::vector<std::string> parts;
  if (config.has("single"))
    for (const Json& piece : config.json().at("single")) parts.push_back(template_part(piece));
  if (parts != std::vector<std::string>{"SpecialToken", "Sequence", "SpecialToken"})
    throw FileError(
        fmt::format("{}: 'single' differs from CLIP's: a special token, the text, a special token",
                    config.source()));
}

void check_model(const JsonConfig& model) {
  model.require_one_of("type", {"BPE"});
  model.require_one_of("end_of_word_suffix", {std::string(kEndOfWord)});
  if (!model.has("end_of_word_suffix"))
    throw FileError(fmt::format("{}: 'end_of_word_suffix' is missing; CLIP's is '{}'",
                                model.source(), kEndOfWord));
  model.require_one_of("continuing_subword_prefix", {""});
  model.require_one_of("dropout", {0.0});
  for (const char* flag : {"fuse_unk", "byte_fallback", "ignore_merges"})
    model.require_one_of(flag, {false});
  model.ignore({"unk_token", "vocab", "merges"});  // the unknown token is tokenizer_config.json's
  model.refuse_unread_keys();
}

/// "a b", or ["a", "b"] since tokenizers 0.20.
std::pair<std::string, std::string> parse_merge(const Json& merge, size_t rank,
                                                const std::string& source) {
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos)
      return {text.substr(0, space), text.substr(space + 1)};
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
             merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  throw FileError(fmt::format("{}: merge {} must be two tokens", source, rank + 1));
}

}  // namespace

std::unordered_map<std::string, int64_t> read_vocabulary_ids(const Json& ids,
                                                             const std::string& source) {
  if (!ids.is_object())
    throw FileError(fmt::format("{}: the vocabulary must be an object", source));
  std::unordered_map<std::string, int64_t> result;
  result.reserve(ids.size());
  for (const auto& [token, id] : ids.items()) {
    constexpr uint64_t kMaxId = std::numeric_limits<int32_t>::max();
    if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxId)
      throw FileError(
          fmt::format("{}: the id of token '{}' must be a whole number in [0, 2^31), is {}", source,
                      token, id.dump()));
    result.emplace(token, id.get<int64_t>());
  }
  return result;
}

TokenizerJson read_tokenizer_json(const std::filesystem::path& path) {
  const Json json = read_json_file(path);
  const std::string source = fmt::format("'{}'", path.string());
  const JsonConfig config(json, source);
  require_part(json, "normalizer", {clip_normalizer()}, source);
  require_part(json, "pre_tokenizer", clip_pre_tokenizers(), source);
  check_post_processor(json.value("post_processor", Json()), source);
  // Of padding only the side is taken over by transformers.
  if (config.has("padding"))
    JsonConfig(json.at("padding"), source + ": padding").require_one_of("direction", {"Right"});
  // Truncation is the caller's; the decoder plays no part in encoding.
  config.ignore({"version", "truncation", "padding", "decoder", "normalizer", "pre_tokenizer",
                 "post_processor", "added_tokens", "model"});
  config.refuse_unread_keys();

  if (!json.contains("model")) throw FileError(fmt::format("{}: 'model' is missing", source));
  const Json& model = json.at("model");
  check_model(JsonConfig(model, source + ": model"));
  for (const char* key : {"vocab", "merges"})
    if (!model.contains(key))
      throw FileError(fmt::format("{}: model: '{}' is missing", source, key));

  TokenizerJson result{{source, read_vocabulary_ids(model.at("vocab"), source), {}},
                       json.value("added_tokens", Json::array())};
  const Json& merges = model.at("merges");
  if (!merges.is_array())
    throw FileError(fmt::format("{}: model: 'merges' must be a list", source));
  result.vocabulary.merges.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank)
    result.vocabulary.merges.push_back(parse_merge(merges[rank], rank, source));
  return result;
}

}  // namespace molar
