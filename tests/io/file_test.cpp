#include "molar/io/file.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;
using test::TempFolder;

TEST(PathSuggestion, IsTheNearestNameInTheFolder) {
  const TempFolder folder;
  folder.file("ziggy.safetensors", "");
  folder.file("emperor.safetensors", "");
  folder.file("ziggy.txt", "");
  const auto wanted = [&](const char* name) {
    return "; did you mean '" + (folder / name).string() + "'?";
  };
  EXPECT_EQ(path_suggestion(folder / "zigy.safetensors"), wanted("ziggy.safetensors"));
  EXPECT_EQ(path_suggestion(folder / "Emperor.safetensors"), wanted("emperor.safetensors"));
  EXPECT_EQ(path_suggestion(folder / "ziggy.safetensor"), wanted("ziggy.safetensors"));
  EXPECT_EQ(path_suggestion(folder / "zigy.txt"), wanted("ziggy.txt"));
}

TEST(PathSuggestion, IsNothingWhereNothingIsNear) {
  const TempFolder folder;
  folder.file("a.safetensors", "");
  EXPECT_EQ(path_suggestion(folder / "b.safetensors"), "") << "alike endings make no name near";
  EXPECT_EQ(path_suggestion(folder / "a.png"), "") << "another kind of file";
  EXPECT_EQ(path_suggestion(folder / "none/a.safetensors"), "");
  EXPECT_EQ(path_suggestion(""), "");
}

TEST(PathSuggestion, NamesAFolder) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "toyland");
  EXPECT_EQ(path_suggestion(folder / "toylnad/"),
            "; did you mean '" + (folder / "toyland").string() + "'?");
}

TEST(InputFile, SuggestsWhereThereIsNone) {
  const TempFolder folder;
  folder.file("house.png", "x");
  expect_error<FileError>([&] { InputFile(folder / "huose.png"); },
                          {"No such file", "did you mean", "house.png"});
}

}  // namespace
}  // namespace molar
