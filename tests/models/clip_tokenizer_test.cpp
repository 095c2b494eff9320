#include "molar/models/clip_tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "molar/core/error.h"
#include "support/tokenizer_folder.h"

namespace molar {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int64_t>;

const fs::path kGoldens = MOLAR_TEST_DATA_DIR;
const fs::path kVocabulary =
    fs::path(MOLAR_SOURCE_DIR) / "models/clip/bpe_simple_vocab_16e6.txt.gz";

/// Where a tokenizer of ids.json is.
TokenizerFiles files_of(const std::string& name) {
  if (name == "openclip")
    return {.folder = {}, .vocabulary = kVocabulary, .pad_token = "<|endoftext|>"};
  if (name == "openclip!") return {.folder = {}, .vocabulary = kVocabulary, .pad_token = "!"};
  return {.folder = kGoldens / name, .vocabulary = {}, .pad_token = {}};
}

CLIPTokenizer tiny(const std::string& folder = "sd15-tiny/tokenizer") {
  return CLIPTokenizer::load(files_of("models/" + folder));
}

void expect_golden_ids(const std::function<bool(const std::string&)>& wanted_tokenizer,
                       size_t num_tokenizers) {
  const Json golden = read_json_file(kGoldens / "tokenizer/ids.json");
  const auto texts = golden.at("texts").get<std::vector<std::string>>();
  ASSERT_GE(texts.size(), 400U);
  size_t compared = 0;
  for (const auto& [name, ids] : golden.at("ids").items()) {
    if (!wanted_tokenizer(name)) continue;
    const CLIPTokenizer tokenizer = CLIPTokenizer::load(files_of(name));
    ASSERT_EQ(ids.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(tokenizer.encode(texts[i]), ids[i].get<Ids>()) << name << ": '" << texts[i] << "'";
    ++compared;
  }
  EXPECT_EQ(compared, num_tokenizers);
}

bool is_real_vocabulary(const std::string& name) { return name.starts_with("openclip"); }

TEST(CLIPTokenizer, GivesTheIdsOfTransformersForTheTinyModels) {
  expect_golden_ids([](const std::string& name) { return !is_real_vocabulary(name); }, 5);
}

TEST(CLIPTokenizer, GivesTheIdsOfTransformersForTheRealVocabulary) {
  ASSERT_TRUE(fs::exists(kVocabulary))
      << kVocabulary << " is missing: scripts/test puts it there, from the package open_clip_torch";
  expect_golden_ids(is_real_vocabulary, 2);
}

TEST(CLIPTokenizer, KnowsItsSpecialTokensAndSizes) {
  const CLIPTokenizer sd15 = tiny();
  EXPECT_EQ(sd15.bos_token_id(), 812);
  EXPECT_EQ(sd15.eos_token_id(), 813);
  EXPECT_EQ(sd15.pad_token_id(), 813);
  EXPECT_EQ(sd15.vocab_size(), 814);
  EXPECT_EQ(tiny("sd21-tiny/tokenizer").pad_token_id(), 0) << "SD 2.x pads with '!'";
  EXPECT_EQ(tiny("sdxl-tiny/tokenizer_2").pad_token_id(), 0);
  EXPECT_EQ(tiny("sdxl-tiny/tokenizer").pad_token_id(), 813);
}

TEST(CLIPTokenizer, PadTokenOfTheCallerReplacesThatOfTheFolder) {
  TokenizerFiles files = files_of("models/sd15-tiny/tokenizer");
  files.pad_token = "!";
  const CLIPTokenizer tokenizer = CLIPTokenizer::load(files);
  EXPECT_EQ(tokenizer.pad_token_id(), 0);
  EXPECT_EQ(tokenizer.encode("!!"), (Ids{0, 0})) << "as in every tokenizer that pads with '!'";
}

TEST(CLIPTokenizer, EmptyTextHasNoIds) { EXPECT_EQ(tiny().encode(""), Ids{}); }

TEST(CLIPTokenizer, TextAroundANulByteIsRead) {
  const CLIPTokenizer tokenizer = tiny();
  Ids expected = tokenizer.encode("a");
  const Ids nul = tokenizer.encode(std::string_view("\0", 1)), b = tokenizer.encode("b");
  expected.insert(expected.end(), nul.begin(), nul.end());
  expected.insert(expected.end(), b.begin(), b.end());
  EXPECT_EQ(tokenizer.encode(std::string_view("a\0b", 3)), expected);
}

TEST(CLIPTokenizer, TextThatIsNotUtf8IsRefusedWithThePositionOfTheByte) {
  const std::pair<std::string, int> cases[] = {
      {"\xFF", 0},                 // no such first byte
      {"ab\x80", 2},               // a continuation without a start
      {"caf\xC3", 3},              // cut off
      {"\xC0\xAF", 0},             // '/' in two bytes
      {"x\xE0\x80\xAF", 1},        // '/' in three bytes
      {"\xED\xA0\x80", 0},         // a surrogate
      {"ok \xF4\x90\x80\x80", 3},  // above U+10FFFF
      {"a\xE2\x82 b", 1},          // cut off inside the text
  };
  const CLIPTokenizer tokenizer = tiny();
  for (const auto& [text, position] : cases) {
    try {
      tokenizer.encode(text);
      ADD_FAILURE() << "accepted: " << testing::PrintToString(text);
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("byte " + std::to_string(position) + " "),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(CLIPTokenizer, HugeTextTakesLinearTime) {
  const CLIPTokenizer tokenizer = tiny();
  const auto start = std::chrono::steady_clock::now();
  // One word of a megabyte; marks in the worst order for a sort by exchange; many words.
  EXPECT_GT(tokenizer.encode(std::string(1 << 20, 'a')).size(), 100000U);
  std::string marks = "a";
  for (int i = 0; i < 100000; ++i) marks += "\u0345\u0334";  // combining classes 240 and 1
  EXPECT_GT(tokenizer.encode(marks).size(), 100000U);
  std::string words;
  for (int i = 0; i < 100000; ++i) words += "cat ";
  EXPECT_EQ(tokenizer.encode(words).size(), 100000U);
  // Quadratic time would be hours; sanitizers and busy machines are 20 times slower than the 0.5 s.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST(CLIPTokenizer, UnassignedCodePointsAreEncodedByTheirBytes) {
  // U+0378 is assigned in no Unicode version: two bytes, the second at a word's end.
  EXPECT_EQ(tiny().encode("\u0378"), (Ids{137, 256 + 116}));
}

// ---- added tokens. Wanted ids: transformers 5.23 on the same files. ----

const char* const kSpecialTexts = "a cat!<|STARTOFTEXT|> <|ENDOFTEXT|> <dog> <Dog> <dogs>";

TEST(CLIPTokenizer, TokensOfAddedTokensJsonAreFoundLongestFirstAndInAnyCase) {
  TokenizerFolder folder;
  folder.write("added_tokens.json", {{"<dog>", 814}, {"<dog>s", 815}});
  const CLIPTokenizer tokenizer = folder.load();
  EXPECT_EQ(tokenizer.encode("<dog> <Dog> <dog>s"), (Ids{814, 814, 815}));
  EXPECT_EQ(tokenizer.vocab_size(), 816);
}

TEST(CLIPTokenizer, ExtraSpecialTokensOfTheConfigAreFoundAsTheyAreSpelled) {
  TokenizerFolder folder;
  folder.edit("tokenizer_config.json",
              [](Json& config) { config["additional_special_tokens"] = {"<dog>", "sks"}; });
  const CLIPTokenizer tokenizer = folder.load();
  EXPECT_EQ(tokenizer.encode("sks<dog>"), (Ids{815, 814}));
  EXPECT_NE(tokenizer.encode("SKS"), (Ids{815}));
}

TEST(CLIPTokenizer, AddedTokensDecoderTakesThePlaceOfAllOlderFiles) {
  TokenizerFolder folder;
  folder.write("added_tokens.json", {{"sks", 814}});
  folder.edit("tokenizer_config.json", [](Json& config) {
    config["added_tokens_decoder"] = {
        {"812", {{"content", "<|startoftext|>"}, {"normalized", false}, {"special", true}}},
        {"813", {{"content", "<|endoftext|>"}, {"normalized", true}, {"special", true}}},
        {"814", {{"content", "<dog>"}, {"normalized", true}, {"special", false}}}};
  });
  const CLIPTokenizer tokenizer = folder.load();
  EXPECT_EQ(tokenizer.encode("<Dog>"), (Ids{814}));
  EXPECT_EQ(tokenizer.encode("<|EndOfText|>"), (Ids{813}));
  EXPECT_NE(tokenizer.encode("<|StartOfText|>"), (Ids{812}));
  EXPECT_NE(tokenizer.encode("sks"), (Ids{814}));
}

TEST(CLIPTokenizer, APlainPaddingTokenTurnsCaseMattersOnForItsNamesake) {
  TokenizerFolder folder;  // special_tokens_map.json: objects with "normalized": true, pad a string
  const CLIPTokenizer tokenizer = folder.load();
  EXPECT_EQ(tokenizer.encode("<|StartOfText|>"), (Ids{812}));
  EXPECT_NE(tokenizer.encode("<|EndOfText|>"), (Ids{813}));
  EXPECT_EQ(tokenizer.encode("<|endoftext|>"), (Ids{813}));
}

TEST(CLIPTokenizer, FolderWithoutSmallFilesHasClipsSpecialTokens) {
  TokenizerFolder folder;
  folder.remove("tokenizer_config.json");
  folder.remove("special_tokens_map.json");
  const CLIPTokenizer tokenizer = folder.load();
  EXPECT_EQ(tokenizer.pad_token_id(), 813);
  EXPECT_EQ(tokenizer.encode("<|startoftext|>"), (Ids{812}));
}

TEST(CLIPTokenizer, NoLimitIsAcceptedAsTheOneLength) {
  TokenizerFolder folder;
  folder.edit("tokenizer_config.json", [](Json& config) { config["model_max_length"] = 1e30; });
  EXPECT_NO_THROW(folder.load());
  folder.edit("tokenizer_config.json", [](Json& config) { config.erase("model_max_length"); });
  EXPECT_NO_THROW(folder.load());
}

TEST(CLIPTokenizer, SettingsWithoutEffectChangeNothing) {
  TokenizerFolder folder;
  folder.edit("tokenizer_config.json", [](Json& config) {
    config.update({{"add_bos_token", false},  // transformers' CLIPTokenizer does not look at these
                   {"add_eos_token", false},
                   {"padding_side", "right"},
                   {"truncation_side", "left"},
                   {"pad_to_multiple_of", 16},
                   {"extra_special_tokens", Json::object()},
                   {"name_or_path", "x"}});
  });
  EXPECT_EQ(folder.load().encode(kSpecialTexts), TokenizerFolder().load().encode(kSpecialTexts));
}

TEST(CLIPTokenizer, BytesWithoutASymbolBecomeTheUnknownToken) {
  TokenizerFolder folder;
  folder.edit("vocab.json", [](Json& vocab) { vocab.erase("q</w>"); });
  EXPECT_EQ(folder.load().encode("q"), (Ids{813}));
}

TEST(CLIPTokenizer, BothLayoutsOfMergesAreRead) {
  TokenizerFolder pairs(TokenizerFolder::Layout::kTokenizerJson);
  TokenizerFolder strings(TokenizerFolder::Layout::kTokenizerJson);
  strings.edit("tokenizer.json", [](Json& json) {
    for (Json& merge : json.at("model").at("merges"))
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  });
  const std::string text = "a painting of a cat, winter light";
  EXPECT_EQ(strings.load().encode(text), pairs.load().encode(text));
}

TEST(CLIPTokenizer, TokenizerJsonOfTransformers4IsRead) {
  TokenizerFolder folder(TokenizerFolder::Layout::kTokenizerJson);
  folder.edit("tokenizer.json", [](Json& json) {
    Json& steps = json.at("pre_tokenizer").at("pretokenizers");
    steps[0]["pattern"]["Regex"] = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
    steps[1].erase("use_regex");
    json.at("model").erase("byte_fallback");
    json.at("model").erase("ignore_merges");
    json["post_processor"] = nullptr;
  });
  EXPECT_EQ(folder.load().encode("it's 2 cats"), tiny().encode("it's 2 cats"));
}

TEST(CLIPTokenizer, TokenizerJsonWithATemplateIsRead) {
  TokenizerFolder folder(TokenizerFolder::Layout::kTokenizerJson);
  folder.edit("tokenizer.json", [](Json& json) {
    json["post_processor"] = {{"type", "TemplateProcessing"},
                              {"single",
                               {{{"SpecialToken", {{"id", "<|startoftext|>"}}}},
                                {{"Sequence", {{"id", "A"}}}},
                                {{"SpecialToken", {{"id", "<|endoftext|>"}}}}}}};
  });
  EXPECT_EQ(folder.load().encode("two cats"), tiny().encode("two cats"));
}

TEST(CLIPTokenizer, WindowsLineEndsInMergesAreRead) {
  TokenizerFolder folder;
  std::string merges = folder.read("merges.txt");
  for (size_t at = 0; (at = merges.find('\n', at)) != std::string::npos; at += 2)
    merges.replace(at, 1, "\r\n");
  folder.write_text("merges.txt", merges);
  EXPECT_EQ(folder.load().encode(kSpecialTexts), TokenizerFolder().load().encode(kSpecialTexts));
}

}  // namespace
}  // namespace molar
