#include "molar/evaluation/prompt_set.h"

#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;
using test::TempFolder;

LabelledPicture picture(const std::string& name, std::optional<std::string> text,
                        std::optional<int64_t> seed = std::nullopt) {
  LabelledPicture picture{.path = name};
  picture.prompt = std::move(text);
  picture.seed = seed;
  return picture;
}

TEST(PromptSet, FindsRowsByPromptAndSeedAndByNumber) {
  const TempFolder folder;
  folder.file("prompts.jsonl",
              R"({"prompt": "a fist", "kind": "hand", "fingers": [0], "seed": 1, "repeat": 0})"
              "\n"
              R"({"prompt": "a fist", "kind": "hand", "fingers": [0], "seed": 2, "repeat": 1})"
              "\n\n"
              R"({"prompt": "two people", "kind": "scene", "people": 2, "fingers": null})"
              "\n");
  const PromptSet set = PromptSet::load(folder / "prompts.jsonl");
  ASSERT_EQ(set.prompts().size(), 3U);
  EXPECT_EQ(set.of(picture("x.png", "a fist", 2)).repeat, 1);
  EXPECT_EQ(set.of(picture("x.png", "two people", 99)).people, 2);
  EXPECT_EQ(set.of(picture("x.png", "two people", 99)).group(), "scene of 2");
  EXPECT_EQ(set.of(picture("00002-abc.png", std::nullopt)).seed, 2);
  EXPECT_EQ(set.of(picture("3.png", std::nullopt)).num_hands(), 4);
  expect_error<InputError>([&] { set.of(picture("run/x.png", "a fist", 3)); },
                           {"run/x.png", "prompts.jsonl", "'a fist'", "seed 3"});
  expect_error<InputError>([&] { set.of(picture("run/x.png", "a cat")); }, {"x.png", "'a cat'"});
  for (const char* name : {"4.png", "0.png", "x.png", "-1.png"})
    expect_error<InputError>([&] { set.of(picture(name, std::nullopt)); },
                             {name, "no molar record", "1 to 3"});
}

TEST(PromptSet, ARowNeedNotSayWhatThePictureShows) {
  const TempFolder folder;
  folder.file("p.jsonl", R"({"prompt": "a man", "seed": 4294967295, "repeat": 2})");
  const PromptSet set = PromptSet::load(folder / "p.jsonl");
  const WantedPicture& row = set.prompts().front();
  EXPECT_FALSE(row.kind);
  EXPECT_EQ(row.num_faces(), 0);
  EXPECT_EQ(row.num_hands(), 0);
  EXPECT_EQ(row.group(), "");
  EXPECT_EQ(row.repeat, 2);
}

TEST(PromptSet, NamesTheLineOfAMistake) {
  const TempFolder folder;
  const auto refuse = [&](const std::string& line, std::initializer_list<std::string_view> says) {
    folder.file("p.jsonl", R"({"prompt": "a", "kind": "face"})"
                           "\n" +
                               line + "\n");
    const std::string message =
        expect_error<InputError>([&] { PromptSet::load(folder / "p.jsonl"); }, says);
    EXPECT_NE(message.find("p.jsonl', line 2: "), std::string::npos) << message;
  };
  refuse("{", {"row"});
  refuse("[]", {"row"});
  refuse(R"({"kind": "face"})", {"'prompt'"});
  refuse(R"({"prompt": "b", "kind": "foot"})", {"foot", "face, hand or scene"});
  refuse(R"({"prompt": "b", "kind": "face", "poeple": 2})", {"poeple"});
  refuse(R"({"prompt": "b", "kind": "face", "people": 2})", {"'people' is 2", "1 to 1"});
  refuse(R"({"prompt": "b", "kind": "scene", "people": 0})", {"'people' is 0"});
  refuse(R"({"prompt": "b", "kind": "hand", "fingers": [11]})", {"'fingers' is 11"});
  refuse(R"({"prompt": "b", "kind": "hand", "fingers": [1, 2]})", {"2 numbers", "1 hands"});
  refuse(R"({"prompt": "b", "kind": "face", "fingers": [1]})", {"0 hands"});
  refuse(R"({"prompt": "b", "kind": "face", "repeat": -1})", {"'repeat' is -1"});
  refuse(R"({"prompt": "a", "kind": "face"})", {"same prompt and seed", "row 1"});
  folder.file("empty.jsonl", "\n");
  expect_error<InputError>([&] { PromptSet::load(folder / "empty.jsonl"); },
                           {"empty.jsonl", "no prompts"});
  expect_error<InputError>([&] { PromptSet::load(folder / "none.jsonl"); },
                           {"none.jsonl", "cannot be read"});
}

}  // namespace
}  // namespace molar
