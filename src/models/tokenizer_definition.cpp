#include "tokenizer_definition.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "gzip.h"
#include "molar/core/error.h"
#include "molar/io/file.h"
#include "molar/io/json_config.h"
#include "molar/models/clip_tokenizer.h"
#include "tokenizer_json.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBosToken = "<|startoftext|>";
constexpr std::string_view kEosToken = "<|endoftext|>";

/// A special token as written: a string, or an object with "content" and flags.
struct TokenSpec {
  std::string content;
  bool normalized = false;
  std::optional<int64_t> stated_id;
};

/// `special`: whether an object that does not say "normalized" counts as a special token, for which
/// the reference turns normalisation off.
TokenSpec parse_token(const Json& value, const std::string& source, bool special) {
  if (value.is_string()) return {value.get<std::string>(), false, {}};
  const JsonConfig config(value, source);
  config.require_one_of("single_word", {false});
  return {config.get<std::string>("content"), config.get_or("normalized", !special),
          config.get_optional<int64_t>("id")};
}

Json read_optional_json(const fs::path& path) {
  return fs::exists(path) ? read_json_file(path) : Json::object();
}

/// The text without a line's end; the last line may lack it.
std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::pair<std::string, std::string> parse_merge_line(std::string_view line, size_t line_number,
                                                     const std::string& source) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space != line.rfind(' '))
    throw FileError(
        fmt::format("{}: line {} must be two tokens with one space between, is '{:.60}'", source,
                    line_number, line));
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

Vocabulary read_vocabulary_files(const fs::path& folder) {
  const fs::path ids_path = folder / "vocab.json", merges_path = folder / "merges.txt";
  constexpr uint64_t kMaxMergesBytes = 64ULL << 20;
  const std::string source = fmt::format("'{}'", merges_path.string());
  Vocabulary vocabulary{
      source,
      read_vocabulary_ids(read_json_file(ids_path), fmt::format("'{}'", ids_path.string())),
      {}};
  const std::string text = read_file(merges_path, kMaxMergesBytes);
  size_t line_number = 0;
  for (const std::string_view line : split_lines(text)) {
    ++line_number;
    if (!line.starts_with("#version"))
      vocabulary.merges.push_back(parse_merge_line(line, line_number, source));
  }
  return vocabulary;
}

/// Gives added tokens their ids: the vocabulary's, or the next free ones. A later entry replaces
/// the flags of an earlier one with the same text.
class AddedTokens {
 public:
  AddedTokens(const Vocabulary& vocabulary, std::string source)
      : vocabulary_(vocabulary),
        source_(std::move(source)),
        next_id_(static_cast<int64_t>(vocabulary.ids.size())) {}

  void add(const TokenSpec& spec) {
    if (spec.content.empty()) return;
    const auto [place, is_new] = places_.try_emplace(spec.content, tokens_.size());
    if (is_new) {
      tokens_.push_back({spec.content, spec.normalized, id_for(spec.content)});
      next_id_ = std::max(next_id_, tokens_.back().id + 1);
    }
    AddedToken& token = tokens_[place->second];
    if (spec.stated_id && *spec.stated_id != token.id)
      throw FileError(fmt::format("{}: added token '{}' says id {}, the vocabulary gives it {}",
                                  source_, spec.content, *spec.stated_id, token.id));
    token.normalized = spec.normalized;
  }
  /// nullopt: there is no such token.
  std::optional<int64_t> find_id(const std::string& content) const {
    const auto place = places_.find(content);
    if (place == places_.end()) return std::nullopt;
    return tokens_[place->second].id;
  }
  std::vector<AddedToken> take() { return std::move(tokens_); }

 private:
  int64_t id_for(const std::string& content) const {
    const auto found = vocabulary_.ids.find(content);
    return found != vocabulary_.ids.end() ? found->second : next_id_;
  }

  const Vocabulary& vocabulary_;
  std::string source_;
  int64_t next_id_;
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> places_;  // in tokens_
};

/// What the small files of a tokenizer folder say about special tokens.
struct SpecialTokens {
  std::vector<TokenSpec> listed;           ///< by id: added_tokens_decoder, or what stood for it
  std::map<std::string, TokenSpec> named;  ///< "bos_token", ...
  std::vector<TokenSpec> extra;
};

/// In the order in which the reference adds them: later ones replace the flags of earlier ones.
constexpr const char* kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};

void read_named_tokens(const JsonConfig& config, bool special, SpecialTokens& tokens) {
  for (const char* name : kNamedTokens)
    if (config.has(name))
      tokens.named[name] = parse_token(config.json().at(name),
                                       fmt::format("{}: {}", config.source(), name), special);
  for (const char* name : {"additional_special_tokens", "extra_special_tokens"}) {
    if (!config.has(name)) continue;
    const std::string source = fmt::format("{}: {}", config.source(), name);
    const Json& list = config.json().at(name);
    if (list.is_object() && list.empty())
      continue;  // how transformers 4 writes that there are none
    if (!list.is_array()) throw FileError(fmt::format("{} must be a list of tokens", source));
    for (const Json& token : list) tokens.extra.push_back(parse_token(token, source, true));
  }
}

/// tokenizer_config.json's added_tokens_decoder: {"49406": {"content": ...}}.
void read_added_tokens_decoder(const JsonConfig& config, SpecialTokens& tokens) {
  const std::string source = config.source() + ": added_tokens_decoder";
  const Json& decoder = config.json().at("added_tokens_decoder");
  const JsonConfig entries(decoder, source);
  for (const auto& [key, value] : decoder.items()) {
    TokenSpec token = parse_token(value, fmt::format("{}: {}", source, key), false);
    const bool is_number = !key.empty() && key.size() <= 9 &&
                           std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; });
    if (!is_number) throw FileError(fmt::format("{}: '{}' is not an id", source, key));
    token.stated_id = std::stoll(key);
    tokens.listed.push_back(std::move(token));
  }
}

/// The older files, which count only where tokenizer_config.json has no added_tokens_decoder.
void read_legacy_tokens(const fs::path& folder, const Json& tokenizer_json_tokens,
                        SpecialTokens& tokens) {
  const Json map = read_optional_json(folder / "special_tokens_map.json");
  const std::string map_source = fmt::format("'{}'", (folder / "special_tokens_map.json").string());
  read_named_tokens(JsonConfig(map, map_source), /*special=*/true, tokens);

  const Json added = read_optional_json(folder / "added_tokens.json");
  const std::string added_source = fmt::format("'{}'", (folder / "added_tokens.json").string());
  const JsonConfig added_config(added, added_source);
  for (const auto& [content, id] : added.items()) {
    const bool is_special = std::ranges::any_of(
        tokens.named, [&](const auto& named) { return named.second.content == content; });
    tokens.listed.push_back({content, !is_special, added_config.get<int64_t>(content)});
  }
  if (!tokenizer_json_tokens.is_array())
    throw FileError(
        fmt::format("'{}': 'added_tokens' must be a list", (folder / "tokenizer.json").string()));
  for (const Json& token : tokenizer_json_tokens)
    tokens.listed.push_back(parse_token(
        token, fmt::format("'{}': added_tokens", (folder / "tokenizer.json").string()), false));
}

/// Checks and resolves everything once the files are read.
void resolve_special_tokens(const SpecialTokens& tokens, TokenizerDefinition& definition) {
  AddedTokens added(definition.vocabulary, definition.vocabulary.source);
  auto listed = tokens.listed;
  std::ranges::stable_sort(listed, {}, [](const TokenSpec& t) { return t.stated_id.value_or(0); });
  for (const TokenSpec& token : listed) added.add(token);
  std::unordered_set<std::string> listed_contents;
  for (const TokenSpec& token : listed) listed_contents.insert(token.content);
  const auto is_listed = [&](const std::string& content) {
    return listed_contents.contains(content);
  };

  auto named = tokens.named;
  named.try_emplace("bos_token", TokenSpec{std::string(kBosToken), false, {}});
  for (const char* name : {"eos_token", "unk_token", "pad_token"})
    named.try_emplace(name, TokenSpec{std::string(kEosToken), false, {}});
  for (const char* name : kNamedTokens)
    if (const auto token = named.find(name);
        token != named.end() && !is_listed(token->second.content))
      added.add(token->second);
  for (const TokenSpec& token : tokens.extra)
    if (!is_listed(token.content)) added.add(token);

  const auto id_of = [&](const char* name) {
    const auto id = added.find_id(named.at(name).content);
    if (!id) throw FileError(fmt::format("{}: '{}' is empty", definition.vocabulary.source, name));
    return *id;
  };
  definition.bos_token_id = id_of("bos_token");
  definition.eos_token_id = id_of("eos_token");
  definition.unk_token_id = id_of("unk_token");
  definition.pad_token_id = id_of("pad_token");
  definition.added_tokens = added.take();
}

/// Throws FileError for a length other than CLIP's 77, in which prompts are cut and padded. Absent,
/// or the 1e30 with which transformers says "no limit", leaves it at that.
void check_model_max_length(const JsonConfig& config) {
  constexpr double kNoLimit = 1e6;
  const auto length = config.get_optional<double>("model_max_length");
  if (length && *length != static_cast<double>(CLIPTokenizer::kModelMaxLength) &&
      *length < kNoLimit)
    throw FileError(fmt::format("{}: 'model_max_length' is {}; molar supports {}, or no limit",
                                config.source(), *length, CLIPTokenizer::kModelMaxLength));
}

/// How a tokenizer decodes, saves itself or treats texts that are too long or come in pairs; and
/// what CLIPTokenizer of transformers takes and does not look at.
void ignore_settings_without_effect(const JsonConfig& config) {
  config.ignore({"add_bos_token",
                 "add_eos_token",
                 "backend",
                 "chat_template",
                 "clean_up_tokenization_spaces",
                 "errors",
                 "from_slow",
                 "is_local",
                 "legacy",
                 "local_files_only",
                 "max_length",
                 "model_input_names",
                 "name_or_path",
                 "pad_to_multiple_of",
                 "pad_token_type_id",
                 "processor_class",
                 "special_tokens_map_file",
                 "stride",
                 "tokenizer_file",
                 "trim_offsets",
                 "truncation",
                 "truncation_side",
                 "truncation_strategy",
                 "use_fast",
                 "verbose"});
}

}  // namespace

TokenizerDefinition read_tokenizer_folder(const fs::path& folder, const std::string& pad_token) {
  const std::string config_source =
      fmt::format("'{}'", (folder / "tokenizer_config.json").string());
  const Json config_json = read_optional_json(folder / "tokenizer_config.json");
  const JsonConfig config(config_json, config_source);
  config.require_one_of("tokenizer_class", {"CLIPTokenizer", "CLIPTokenizerFast"});
  config.require_one_of("do_lower_case", {true});
  config.require_one_of("add_prefix_space", {false});
  config.require_one_of("split_special_tokens", {false});
  config.require_one_of("padding_side", {"right"});
  check_model_max_length(config);
  ignore_settings_without_effect(config);

  TokenizerDefinition definition;
  Json tokenizer_json_tokens = Json::array();
  if (fs::exists(folder / "tokenizer.json")) {
    TokenizerJson read = read_tokenizer_json(folder / "tokenizer.json");
    definition.vocabulary = std::move(read.vocabulary);
    tokenizer_json_tokens = std::move(read.added_tokens);
  } else if (fs::exists(folder / "vocab.json") || fs::exists(folder / "merges.txt")) {
    definition.vocabulary = read_vocabulary_files(folder);
  } else {
    throw FileError(
        fmt::format("'{}' holds no tokenizer: wanted tokenizer.json, or vocab.json and merges.txt",
                    folder.string()));
  }

  SpecialTokens tokens;
  read_named_tokens(config, /*special=*/false, tokens);
  if (config.has("added_tokens_decoder"))
    read_added_tokens_decoder(config, tokens);
  else
    read_legacy_tokens(folder, tokenizer_json_tokens, tokens);
  config.refuse_unread_keys();
  if (!pad_token.empty()) tokens.named["pad_token"] = {pad_token, false, {}};
  resolve_special_tokens(tokens, definition);
  return definition;
}

TokenizerDefinition read_openclip_vocabulary(const fs::path& path, const std::string& pad_token) {
  constexpr size_t kNumMerges = 49152 - 256 - 2;
  const std::string source = fmt::format("'{}'", path.string());
  const std::string text = read_gzip_file(path);
  const auto lines = split_lines(text);
  if (lines.empty() || lines.front().find("#version") == std::string_view::npos)
    throw FileError(
        fmt::format("{} is not OpenCLIP's vocabulary: the first line names no version", source));
  if (lines.size() < kNumMerges + 1)
    throw FileError(fmt::format("{} is not OpenCLIP's vocabulary: wanted {} merges, found {}",
                                source, kNumMerges, lines.size() - 1));

  TokenizerDefinition definition;
  definition.vocabulary.source = source;
  auto& ids = definition.vocabulary.ids;
  ids.reserve(kNumMerges + 514);
  const auto append = [&](const std::string& symbol) {
    ids.insert_or_assign(symbol, static_cast<int64_t>(ids.size()));
  };
  for (const std::string_view suffix : {std::string_view(), kEndOfWord})
    for (const uint8_t byte : bytes_in_vocabulary_order())
      append(byte_symbol(byte) + std::string(suffix));
  for (size_t rank = 0; rank < kNumMerges; ++rank) {
    definition.vocabulary.merges.push_back(parse_merge_line(lines[rank + 1], rank + 2, source));
    const auto& [left, right] = definition.vocabulary.merges.back();
    append(left + right);
  }
  append(std::string(kBosToken));
  append(std::string(kEosToken));
  if (ids.size() != kNumMerges + 514)
    throw FileError(fmt::format("{} is not OpenCLIP's vocabulary: a token appears twice", source));

  // As the tokenizers of published checkpoints say it: BOS, EOS and the unknown token are matched
  // in any case, except that the padding token is a plain string and replaces the flag of its
  // namesake.
  SpecialTokens tokens;
  tokens.named["bos_token"] = {std::string(kBosToken), true, {}};
  for (const char* name : {"eos_token", "unk_token"})
    tokens.named[name] = {std::string(kEosToken), true, {}};
  tokens.named["pad_token"] = {pad_token, false, {}};
  resolve_special_tokens(tokens, definition);
  return definition;
}

}  // namespace molar
