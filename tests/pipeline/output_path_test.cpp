#include "molar/pipeline/output_path.h"

#include <gtest/gtest.h>

#include "molar/core/error.h"

namespace molar {
namespace {

TEST(OutputPath, FillsTheTemplate) {
  EXPECT_EQ(output_path("o/{row}-{name}-{seed}.png", {.seed = 7, .row = 3, .name = "dog"}),
            "o/3-dog-7.png");
}

TEST(OutputPath, AFileNameStandsForItself) { EXPECT_EQ(output_path("dog.PNG", {}), "dog.PNG"); }

TEST(OutputPath, AFolderGetsANameWithTheSeed) {
  EXPECT_EQ(output_path("new-folder/", {.seed = 42}), "new-folder/molar-42.png");
  EXPECT_EQ(output_path(::testing::TempDir(), {.seed = 42}),
            std::filesystem::path(::testing::TempDir()) / "molar-42.png");
}

TEST(OutputPath, AFolderIsATemplateToo) {
  EXPECT_EQ(output_path("of-{seed}/{name}/", {.seed = 42, .name = "dog"}),
            "of-42/dog/molar-42.png");
  const auto folder = std::filesystem::path(::testing::TempDir()) / "of-42";
  std::filesystem::create_directory(folder);
  EXPECT_EQ(output_path(::testing::TempDir() + "/of-{seed}", {.seed = 42}),
            folder / "molar-42.png");
  EXPECT_THROW(output_path("of-{sead}/", {}), ConfigError);
}

TEST(OutputPath, RefusesUnknownFieldsOpenBracesOtherFormatsAndNothing) {
  EXPECT_THROW(output_path("{sead}.png", {}), ConfigError);
  EXPECT_THROW(output_path("{seed.png", {}), ConfigError);
  EXPECT_THROW(output_path("dog.jpg", {}), ConfigError);
  EXPECT_THROW(output_path("", {}), ConfigError);
}

TEST(PathName, KeepsLettersAndDigits) {
  EXPECT_EQ(path_name("A dog, in/../watercolor!"), "A-dog-in-watercolor");
  EXPECT_EQ(path_name("犬"), "picture");
  EXPECT_EQ(path_name(std::string(100, 'x')).size(), 40U);
}

}  // namespace
}  // namespace molar
