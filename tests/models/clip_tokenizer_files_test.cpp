// Every way in which a tokenizer's files can be wrong, and what the message must name.
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>

#include "molar/core/error.h"
#include "support/tokenizer_folder.h"

namespace molar {
namespace {

using Layout = TokenizerFolder::Layout;

std::string refusal(const TokenizerFiles& files) {
  try {
    CLIPTokenizer::load(files);
  } catch (const FileError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

std::string refusal(const TokenizerFolder& folder) {
  return refusal({.folder = folder.path(), .vocabulary = {}, .pad_token = {}});
}

/// Changes one JSON file of a fresh folder and returns what loading says.
std::string refusal_after(Layout layout, const std::string& file,
                          const std::function<void(Json&)>& change) {
  const TokenizerFolder folder(layout);
  folder.edit(file, change);
  return refusal(folder);
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

TEST(TokenizerFiles, NoSourceAtAllIsRefused) {
  EXPECT_SAYS(refusal(TokenizerFiles{}), "bpe_simple_vocab");
}

TEST(TokenizerFiles, FolderWithoutTokenizerIsRefused) {
  const TokenizerFolder folder;
  folder.remove("vocab.json");
  folder.remove("merges.txt");
  EXPECT_SAYS(refusal(folder), "wanted tokenizer.json, or vocab.json and merges.txt");
}

TEST(TokenizerFiles, EachHalfOfTheVocabularyIsMissed) {
  for (const std::string file : {"vocab.json", "merges.txt"}) {
    const TokenizerFolder folder;
    folder.remove(file);
    EXPECT_SAYS(refusal(folder), file);
  }
}

TEST(TokenizerFiles, MergesWithoutTwoTokensNameTheLine) {
  for (const std::string line : {"onlyone", "a b c", "", "a  b"}) {
    const TokenizerFolder folder;
    folder.write_text("merges.txt", "#version: 0.2\ni n\n" + line + "\n");
    EXPECT_SAYS(refusal(folder), "line 3");
  }
}

TEST(TokenizerFiles, MergesOfTokensWithoutIdAreRefused) {
  for (const std::string line : {" ", "i nnnnnn", "zzzz n", "q q"}) {
    const TokenizerFolder folder;
    folder.write_text("merges.txt", "#version: 0.2\n" + line + "\n");
    EXPECT_SAYS(refusal(folder), "which has no id");
  }
}

TEST(TokenizerFiles, IdsOutOfRangeAreRefused) {
  for (const Json& id : {Json(-1), Json(2147483648), Json(1.5), Json("1"), Json()}) {
    const auto message =
        refusal_after(Layout::kFiles, "vocab.json", [&](Json& vocab) { vocab["a"] = id; });
    EXPECT_SAYS(message, "the id of token 'a'");
  }
  EXPECT_SAYS(refusal_after(Layout::kFiles, "vocab.json", [](Json& vocab) { vocab = {"a", "b"}; }),
              "must be an object");
}

TEST(TokenizerFiles, WhatDiffersFromClipInTokenizerJsonIsNamed) {
  const std::pair<const char*, std::function<void(Json&)>> cases[] = {
      {"'normalizer'", [](Json& json) { json["normalizer"] = {{"type", "NFKC"}}; }},
      {"'normalizer'", [](Json& json) { json["normalizer"]["normalizers"].erase(2); }},
      {"'normalizer'", [](Json& json) { json.erase("normalizer"); }},
      {"'pre_tokenizer'", [](Json& json) { json["pre_tokenizer"] = nullptr; }},
      {"'pre_tokenizer'",
       [](Json& json) { json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; }},
      {"'pre_tokenizer'",
       [](Json& json) { json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+"; }},
      {"'type'", [](Json& json) { json["post_processor"] = {{"type", "BertProcessing"}}; }},
      {"'type' is missing", [](Json& json) { json["post_processor"] = Json::object(); }},
      {"'single'", [](Json& json) { json["post_processor"] = {{"type", "TemplateProcessing"}}; }},
      {"'single'",
       [](Json& json) {
         json["post_processor"] = {{"type", "TemplateProcessing"},
                                   {"single", {{{"Sequence", {{"id", "A"}}}}}}};
       }},
      {"'type'", [](Json& json) { json["model"]["type"] = "Unigram"; }},
      {"'end_of_word_suffix'", [](Json& json) { json["model"]["end_of_word_suffix"] = "@@"; }},
      {"'end_of_word_suffix'", [](Json& json) { json["model"].erase("end_of_word_suffix"); }},
      {"'continuing_subword_prefix'",
       [](Json& json) { json["model"]["continuing_subword_prefix"] = "##"; }},
      {"'dropout'", [](Json& json) { json["model"]["dropout"] = 0.1; }},
      {"'fuse_unk'", [](Json& json) { json["model"]["fuse_unk"] = true; }},
      {"'byte_fallback'", [](Json& json) { json["model"]["byte_fallback"] = true; }},
      {"'ignore_merges'", [](Json& json) { json["model"]["ignore_merges"] = true; }},
      {"'novelty'", [](Json& json) { json["model"]["novelty"] = 1; }},
      {"'novelty'", [](Json& json) { json["novelty"] = 1; }},
      {"padding: 'direction' is \"Left\"",
       [](Json& json) { json["padding"] = {{"direction", "Left"}}; }},
      {"'model' is missing", [](Json& json) { json.erase("model"); }},
      {"'vocab' is missing", [](Json& json) { json["model"].erase("vocab"); }},
      {"'merges' is missing", [](Json& json) { json["model"].erase("merges"); }},
      {"'merges' must be a list", [](Json& json) { json["model"]["merges"] = "i n"; }},
      {"merge 1 must be two tokens", [](Json& json) { json["model"]["merges"][0] = {"i"}; }},
      {"merge 2 must be two tokens", [](Json& json) { json["model"]["merges"][1] = "i n n"; }},
      {"merge 3 must be two tokens", [](Json& json) { json["model"]["merges"][2] = {1, 2}; }},
      {"'added_tokens' must be a list", [](Json& json) { json["added_tokens"] = "x"; }},
      {"says id 5", [](Json& json) { json["added_tokens"][0]["id"] = 5; }},
      {"'single_word'", [](Json& json) { json["added_tokens"][0]["single_word"] = true; }},
      {"'content' is missing", [](Json& json) { json["added_tokens"][0].erase("content"); }},
      {"wanted a JSON object", [](Json& json) { json = Json::array(); }},
  };
  for (const auto& [part, change] : cases) {
    const std::string message = refusal_after(Layout::kTokenizerJson, "tokenizer.json", change);
    EXPECT_SAYS(message, part);
    EXPECT_SAYS(message, "tokenizer.json");
  }
}

TEST(TokenizerFiles, WhatIsWrongInTheConfigIsNamed) {
  const std::pair<const char*, std::function<void(Json&)>> cases[] = {
      {"'tokenizer_class'", [](Json& config) { config["tokenizer_class"] = "T5Tokenizer"; }},
      {"'do_lower_case'", [](Json& config) { config["do_lower_case"] = false; }},
      {"'add_prefix_space'", [](Json& config) { config["add_prefix_space"] = true; }},
      {"'split_special_tokens'", [](Json& config) { config["split_special_tokens"] = true; }},
      {"'model_max_length' is 64; molar supports 77",
       [](Json& config) { config["model_max_length"] = 64; }},
      {"'model_max_length' is 248", [](Json& config) { config["model_max_length"] = 248; }},
      {"'padding_side' is \"left\"", [](Json& config) { config["padding_side"] = "left"; }},
      {"'novelty' = 1", [](Json& config) { config["novelty"] = 1; }},
      {"'model_max_length'", [](Json& config) { config["model_max_length"] = "77"; }},
      {"must be a list of tokens", [](Json& config) { config["extra_special_tokens"] = "x"; }},
      {"'bos_token' is empty", [](Json& config) { config["bos_token"] = ""; }},
      {"'x1' is not an id",
       [](Json& config) { config["added_tokens_decoder"] = {{"x1", {{"content", "a"}}}}; }},
      {"says id 7",
       [](Json& config) { config["added_tokens_decoder"] = {{"7", {{"content", "<dog>"}}}}; }},
      {"added_tokens_decoder", [](Json& config) { config["added_tokens_decoder"] = {1}; }},
  };
  for (const auto& [part, change] : cases) {
    const TokenizerFolder folder;
    folder.remove("special_tokens_map.json");
    folder.edit("tokenizer_config.json", change);
    EXPECT_SAYS(refusal(folder), part);
  }
}

TEST(TokenizerFiles, AddedTokensMustHaveTheNextFreeId) {
  const TokenizerFolder folder;
  folder.write("added_tokens.json", {{"<dog>", 900}});
  EXPECT_SAYS(refusal(folder), "'<dog>' says id 900, the vocabulary gives it 814");
}

// ---- OpenCLIP's vocabulary file ----

class VocabularyFile {
 public:
  explicit VocabularyFile(const std::string& text) : VocabularyFile() {
    gzFile file = gzopen(path_.c_str(), "wb1");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
  }
  VocabularyFile() {
    std::string name = (std::filesystem::temp_directory_path() / "molar-vocab-XXXXXX").string();
    close(mkstemp(name.data()));
    path_ = name;
  }
  ~VocabularyFile() { std::filesystem::remove(path_); }
  VocabularyFile(const VocabularyFile&) = delete;
  VocabularyFile& operator=(const VocabularyFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string refusal() const {
    return molar::refusal({.folder = {}, .vocabulary = path_, .pad_token = "!"});
  }

 private:
  std::filesystem::path path_;
};

constexpr int kNumMerges = 48894;

/// The vocabulary file's layout, with one merge again and again.
std::string merges_text(int count, const std::string& first_line = "\"x#version: 0.2") {
  std::string text = first_line + "\n";
  for (int i = 0; i < count; ++i) text += "a b\n";
  return text;
}

TEST(OpenClipVocabulary, MissingFileIsRefused) {
  EXPECT_SAYS(refusal({.folder = {}, .vocabulary = "/no/such/file.gz", .pad_token = "!"}),
              "/no/such/file.gz");
}

TEST(OpenClipVocabulary, FileThatIsNotGzipIsRefused) {
  const VocabularyFile file;
  std::ofstream(file.path()) << merges_text(10);
  EXPECT_SAYS(file.refusal(), "not a whole gzip file");
}

TEST(OpenClipVocabulary, FileThatWasCutOffIsRefused) {
  const VocabularyFile file(merges_text(kNumMerges));
  std::filesystem::resize_file(file.path(), std::filesystem::file_size(file.path()) / 2);
  EXPECT_SAYS(file.refusal(), "cut off");
  std::filesystem::resize_file(file.path(), 0);
  EXPECT_SAYS(file.refusal(), "cut off");
}

TEST(OpenClipVocabulary, FileThatUnpacksWithoutEndIsRefused) {
  EXPECT_SAYS(VocabularyFile(std::string(40 << 20, 'a')).refusal(), "unpacks to more than");
}

TEST(OpenClipVocabulary, OtherTextIsRefused) {
  EXPECT_SAYS(VocabularyFile(merges_text(kNumMerges, "hello")).refusal(), "names no version");
  EXPECT_SAYS(VocabularyFile("").refusal(), "names no version");
  EXPECT_SAYS(VocabularyFile(merges_text(100)).refusal(), "wanted 48894 merges, found 100");
  EXPECT_SAYS(VocabularyFile(merges_text(kNumMerges)).refusal(), "appears twice");
  std::string broken = merges_text(kNumMerges);
  broken.replace(broken.find("a b"), 3, "abc");
  EXPECT_SAYS(VocabularyFile(broken).refusal(), "line 2");
}

}  // namespace
}  // namespace molar
