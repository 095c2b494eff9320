/// A tokenizer folder that a test may spoil: a copy of a tiny model's, in a temporary place.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "molar/io/json_config.h"
#include "molar/models/clip_tokenizer.h"

namespace molar {

class TokenizerFolder {
 public:
  enum class Layout {
    kFiles,          ///< vocab.json, merges.txt and small files, as transformers 4 writes them
    kTokenizerJson,  ///< tokenizer.json and tokenizer_config.json, as transformers 5 does
  };

  explicit TokenizerFolder(Layout layout = Layout::kFiles) {
    namespace fs = std::filesystem;
    std::string name = (fs::temp_directory_path() / "molar-tokenizer-XXXXXX").string();
    path_ = mkdtemp(name.data());
    const std::string model = layout == Layout::kFiles ? "sd15-tiny-transformers4" : "sd15-tiny";
    for (const auto& file :
         fs::directory_iterator(fs::path(MOLAR_TEST_DATA_DIR) / "models" / model / "tokenizer"))
      fs::copy_file(file.path(), path_ / file.path().filename());
    // The list of added tokens would take the place of the older files that tests write.
    if (layout == Layout::kFiles)
      edit("tokenizer_config.json", [](Json& config) { config.erase("added_tokens_decoder"); });
  }
  ~TokenizerFolder() { std::filesystem::remove_all(path_); }
  TokenizerFolder(const TokenizerFolder&) = delete;
  TokenizerFolder& operator=(const TokenizerFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  CLIPTokenizer load() const {
    return CLIPTokenizer::load({.folder = path_, .vocabulary = {}, .pad_token = {}});
  }

  std::string read(const std::string& file) const {
    std::ifstream stream(path_ / file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  void write_text(const std::string& file, const std::string& text) const {
    std::ofstream(path_ / file, std::ios::binary) << text;
  }
  void write(const std::string& file, const Json& json) const { write_text(file, json.dump()); }
  void edit(const std::string& file, const std::function<void(Json&)>& change) const {
    Json json = Json::parse(read(file));
    change(json);
    write(file, json);
  }
  void remove(const std::string& file) const { std::filesystem::remove(path_ / file); }

 private:
  std::filesystem::path path_;
};

}  // namespace molar
