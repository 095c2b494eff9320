#include "molar/training/picture_folder.h"

#include <fstream>

#include "molar/io/image.h"
#include "training_fixtures.h"

namespace molar {
namespace {

using namespace test;

std::string png(int64_t height, int64_t width) {
  const Tensor columns = torch::arange(width, torch::kInt64).mul(200 / width).to(torch::kByte);
  return encode_png(columns.view({1, width, 1}).expand({height, width, 3}).contiguous(), {});
}

TEST(PictureFolder, ListsPicturesByNameWithTheirCaptions) {
  const TempFolder folder;
  for (const char* name : {"b.png", "a.JPG", "c.jpeg"}) folder.file(name, "never read here");
  folder.file("a.txt", "  a dog,\nrunning \n");
  folder.file("c.txt", "");
  folder.file("notes.md", "ignored, with a warning");
  const auto pictures = list_pictures({folder.path(), "a dog"}, option_names_of("instance"));
  ASSERT_EQ(pictures.size(), 3U);
  EXPECT_EQ(pictures[0].path.filename(), "a.JPG");
  EXPECT_EQ(pictures[0].caption, "a dog,\nrunning");
  EXPECT_EQ(pictures[1].caption, "a dog");
  EXPECT_EQ(pictures[2].caption, "") << "an empty caption is one";
}

TEST(PictureFolder, SaysWhatIsMissing) {
  const TempFolder folder;
  const auto list = [&](const std::filesystem::path& path, std::optional<std::string> prompt) {
    return [=] { list_pictures({path, prompt}, option_names_of("class")); };
  };
  expect_error<InputError>(list(folder / "absent", "x"), {"--class-images", "absent", "nothing"});
  expect_error<InputError>(list(folder.file("file", ""), "x"), {"--class-images", "a file"});
  expect_error<InputError>(list(folder.path(), "x"), {"no picture in it", ".png"});
  folder.file("a.png", "");
  expect_error<ConfigError>(list(folder.path(), std::nullopt),
                            {"--class-prompt", "a.png", "a.txt"});
  folder.file("a.txt", "\xff");
  expect_error<InputError>(list(folder.path(), "x"), {"a.txt", "UTF-8"});
}

TEST(PictureFolder, CutsTheMiddleSquareOfTheResizedPicture) {
  const TempFolder folder;
  const SquarePicture wide = read_square_picture(folder.file("w.png", png(20, 50)), 8);
  EXPECT_EQ(wide.pixels.sizes(), (std::vector<int64_t>{3, 8, 8}));
  EXPECT_EQ(wide.original_height_px, 20);
  EXPECT_EQ(wide.original_width_px, 50);
  EXPECT_EQ(wide.crop_top_px, 0);
  EXPECT_EQ(wide.crop_left_px, 6);  // (20 - 8) / 2
  // The columns rise evenly: the middle of the square is the middle of the picture, level 98.
  EXPECT_NEAR(wide.pixels[0].mean().item<double>(), 98 / 127.5 - 1, 0.02);

  const SquarePicture tall = read_square_picture(folder.file("t.png", png(50, 20)), 8);
  EXPECT_EQ(tall.crop_top_px, 6);
  EXPECT_EQ(tall.crop_left_px, 0);
}

TEST(PictureFolder, LeavesAPictureOfTheRightSizeAsItIs) {
  const auto path = golden("training/instance/0.png");
  const SquarePicture square = read_square_picture(path, 64);
  const Tensor levels = square.pixels.add(1).mul(127.5).round().to(torch::kByte);
  EXPECT_TRUE(at::equal(levels.permute({1, 2, 0}), read_image(path)));
}

}  // namespace
}  // namespace molar
