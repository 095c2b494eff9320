#include "molar/io/prompt_list.h"

#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;
using Settings = std::vector<std::pair<std::string, std::vector<std::string>>>;

Settings settings(const PromptRow& row) {
  Settings out;
  for (const PromptCell& cell : row.cells) out.emplace_back(cell.key, cell.values);
  return out;
}

TEST(PromptList, CsvCellsAreNamedByTheHeaderAndEmptyOnesInherit) {
  const PromptList list =
      parse_prompt_list("\xEF\xBB\xBFPrompt,CFG_Scale, --seed ,lora\na,,\"\",x@0.5; y\nb,7,8,\n",
                        "x.csv", PromptListFormat::kCsv);
  ASSERT_EQ(list.rows.size(), 2U);
  EXPECT_EQ(settings(list.rows[0]), (Settings{{"prompt", {"a"}}, {"lora", {"x@0.5", "y"}}}));
  EXPECT_EQ(settings(list.rows[1]),
            (Settings{{"prompt", {"b"}}, {"cfg-scale", {"7"}}, {"seed", {"8"}}}));
  EXPECT_EQ(list.columns[2].position.column, 18);
}

TEST(PromptList, RaggedRowsAreProblemsOfTheirOwn) {
  const PromptList list =
      parse_prompt_list("prompt,seed\na\nb,1\nc,2,3\n", "x.csv", PromptListFormat::kCsv);
  EXPECT_EQ(list.rows[0].problem.substr(0, 33), "x.csv:2:1: wanted 2 cells as in t");
  EXPECT_EQ(list.rows[1].problem, "");
  EXPECT_EQ(list.rows[2].problem.substr(0, 9), "x.csv:4:5");
}

TEST(PromptList, JsonLinesHoldTextsNumbersAndLists) {
  const PromptList list = parse_prompt_list(
      "{\"prompt\": \"\\u00fc\", \"sample_steps\": 3, \"vae_tiling\": true, \"lora\": [\"a;b\", "
      "\"c\"],"
      " \"style\": null, \"negative_prompt\": \"\"}\r\n\n[]\n",
      "x.jsonl", PromptListFormat::kJsonLines);
  ASSERT_EQ(list.rows.size(), 2U);
  EXPECT_EQ(settings(list.rows[0]), (Settings{{"lora", {"a;b", "c"}},
                                              {"negative-prompt", {""}},
                                              {"prompt", {"\xC3\xBC"}},
                                              {"steps", {"3"}},
                                              {"vae-tiling", {"true"}}}));
  EXPECT_EQ(list.rows[1].problem.substr(0, 13), "x.jsonl:3:1: ");
}

TEST(PromptList, KohyasOptionsFollowThePrompt) {
  const PromptList list = parse_prompt_list(
      "# none\n  a dog--house, fine --n ugly, --w 64 --cfg-scale=7\n--d 3\nb --x\n", "x.txt",
      PromptListFormat::kText);
  ASSERT_EQ(list.rows.size(), 3U);
  EXPECT_EQ(settings(list.rows[0]), (Settings{{"prompt", {"a dog--house, fine"}},
                                              {"negative-prompt", {"ugly,"}},
                                              {"width", {"64"}},
                                              {"cfg-scale", {"7"}}}));
  EXPECT_EQ(list.rows[0].position.column, 3);
  EXPECT_EQ(list.rows[0].cells[2].position.column, 32);
  EXPECT_EQ(settings(list.rows[1]), (Settings{{"seed", {"3"}}}));
  EXPECT_EQ(list.rows[2].problem.substr(0, 16), "x.txt:4:3: '--x'");
}

TEST(PromptList, TheFormatShowsInTheNameOrTheFirstCharacter) {
  EXPECT_EQ(guess_format("a.csv", "{}"), PromptListFormat::kCsv);
  EXPECT_EQ(guess_format("a.jsonl", "a"), PromptListFormat::kJsonLines);
  EXPECT_EQ(guess_format("a.txt", "{}"), PromptListFormat::kText);
  EXPECT_EQ(guess_format("-", "\xEF\xBB\xBF\n {}"), PromptListFormat::kJsonLines);
  EXPECT_EQ(guess_format("-", "prompt\na\n"), PromptListFormat::kCsv);
}

TEST(PromptList, WhatNoTextIsIsToldWithItsPlace) {
  const auto read = [](std::string_view text) {
    parse_prompt_list(text, "x.csv", PromptListFormat::kCsv);
  };
  expect_error<InputError>(
      [&] {
        read(
            "prompt\n\xC3\xBC"
            "caf\xE9\n");
      },
      {"x.csv:2:5", "0xE9"});
  expect_error<InputError>([&] { read(std::string_view("a\n\0", 3)); }, {"x.csv:2:1", "NUL"});
  expect_error<InputError>(
      [&] {
        read(
            "\xFF\xFE"
            "a");
      },
      {"UTF-16"});
  expect_error<InputError>([&] { read("prompt,\n"); }, {"x.csv:1:8", "without a name"});
  expect_error<InputError>([&] { read("scale,cfg_scale\n1,2\n"); }, {"x.csv:1:7", "stands twice"});
  expect_error<InputError>([&] { read("prompt\n"); }, {"no rows"});
}

}  // namespace
}  // namespace molar
