#include "molar/evaluation/labelled_picture.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "molar/io/image.h"
#include "molar/io/json_config.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempFolder;

Json record() {
  return {{"schema", 1},
          {"request", {{"prompt", "a zib cat"}}},
          {"merge", "np"},
          {"loras",
           {{{"role", "subject"}, {"file", "/loras/ziggy.safetensors"}},
            {{"role", "style"}, {"file", "/loras/neon.safetensors"}},
            {{"role", "lora"}, {"file", "/loras/detail.safetensors"}}}}};
}

/// A picture with `record` in it; null: without one.
void write_picture(const TempFolder& folder, const std::string& name, const Json& record = {}) {
  fs::create_directories((folder / name).parent_path());
  const PngText text = record.is_null() ? PngText{} : PngText{{"molar", record.dump()}};
  folder.file(name, encode_png(at::zeros({2, 2, 3}, at::kByte), text));
}

TEST(FindPictures, ReadsLabelsFromTheRecords) {
  const TempFolder folder;
  write_picture(folder, "deep/er/b.png", record());
  Json with_seed = record();
  with_seed["request"]["seed"] = 42;
  write_picture(folder, "a.png", with_seed);
  folder.file("notes.txt", "no picture");
  const auto pictures = find_pictures({folder.path()}, std::nullopt);
  ASSERT_EQ(pictures.size(), 2U);
  EXPECT_EQ(pictures[0].path, folder / "a.png");
  EXPECT_EQ(pictures[1].path, folder / "deep/er/b.png");
  EXPECT_EQ(pictures[0].seed, 42);
  EXPECT_FALSE(pictures[1].seed);
  for (const LabelledPicture& picture : pictures) {
    EXPECT_EQ(picture.method, "np");
    EXPECT_EQ(picture.subject, "ziggy");
    EXPECT_EQ(picture.style, "neon");
    EXPECT_EQ(picture.prompt, "a zib cat");
  }
}

TEST(FindPictures, TakesFromTheFoldersWhatTheLayoutNames) {
  const TempFolder folder;
  write_picture(folder, "mine/x/cat/0.png", record());
  write_picture(folder, "theirs/x/dog/0.png");
  const auto pictures = find_pictures({folder.path()}, PictureLayout::parse("method/-/subject"));
  ASSERT_EQ(pictures.size(), 2U);
  EXPECT_EQ(pictures[0].method, "mine");
  EXPECT_EQ(pictures[0].subject, "cat");
  EXPECT_EQ(pictures[0].style, "neon");  // the record's
  EXPECT_EQ(pictures[1].method, "theirs");
  EXPECT_EQ(pictures[1].style, "");
  EXPECT_FALSE(pictures[1].prompt);
}

TEST(FindPictures, RefusesFoldersThatSayTooLittle) {
  const TempFolder folder;
  expect_error<InputError>([&] { find_pictures({folder.path()}, std::nullopt); }, {"no pictures"});
  expect_error<InputError>([&] { find_pictures({folder / "none"}, std::nullopt); },
                           {"none", "nothing"});
  write_picture(folder, "run/a.png");
  expect_error<InputError>([&] { find_pictures({folder / "run/a.png"}, std::nullopt); },
                           {"a file"});
  expect_error<InputError>([&] { find_pictures({folder.path()}, std::nullopt); },
                           {"a.png", "--layout"});
  EXPECT_EQ(find_pictures({folder.path()}, std::nullopt, Records::kOptional).size(), 1U);
  expect_error<InputError>(
      [&] { find_pictures({folder.path()}, PictureLayout::parse("method/style")); },
      {"a.png", "1 folders deep", "2"});
}

TEST(FindPictures, RefusesBrokenRecords) {
  const TempFolder folder;
  Json broken = record();
  broken.erase("loras");
  write_picture(folder, "a.png", broken);
  expect_error<InputError>([&] { find_pictures({folder.path()}, std::nullopt); },
                           {"a.png", "lacks"});
  folder.file("a.png", encode_png(at::zeros({2, 2, 3}, at::kByte), {{"molar", "{"}}));
  expect_error<InputError>([&] { find_pictures({folder.path()}, std::nullopt); }, {"a.png"});
}

TEST(PictureLayout, KnowsWhatItNames) {
  const PictureLayout layout = PictureLayout::parse("method/-/style");
  EXPECT_TRUE(layout.names("method"));
  EXPECT_FALSE(layout.names("subject"));
}

TEST(PictureLayout, RefusesOtherWords) {
  expect_error<ConfigError>([] { PictureLayout::parse("method/sujet"); }, {"sujet", "method"});
  expect_error<ConfigError>([] { PictureLayout::parse("style/style"); }, {"twice"});
  expect_error<ConfigError>([] { PictureLayout::parse(""); }, {"''"});
}

}  // namespace
}  // namespace molar
