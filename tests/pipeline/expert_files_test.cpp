#include "molar/pipeline/expert_files.h"

#include "molar/adapters/layer_skeleton.h"
#include "molar/io/checkpoint.h"
#include "molar/io/hash.h"
#include "pipeline_goldens.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

/// As another program would: a new file over the old one.
void replace(const fs::path& from, const fs::path& to) {
  const fs::path beside = to.string() + ".new";
  fs::copy_file(from, beside);
  fs::rename(beside, to);
}

TEST(ExpertFiles, AFolderIsReadAgainOnlyWhereSomethingInItWasWritten) {
  const test::TempFolder folder;
  const fs::path source = test::goldens() / "mole/sets/sd15";
  for (const char* name : {"face", "hand", "gates"})
    fs::copy_file(source / (std::string(name) + ".safetensors"),
                  folder / (std::string(name) + ".safetensors"));
  const LayerSkeleton model(open_checkpoint(test::goldens() / "models/sd15-tiny", {}));
  ExpertFiles files(1 << 20);
  const auto open = [&](ExpertFiles& from) { return from.open(folder.path(), model.layers(), {}); };
  const auto first = open(files);
  EXPECT_EQ(open(files), first);
  EXPECT_EQ(first->sha256,
            (std::vector<std::string>{sha256_safetensors_data(source / "face.safetensors"),
                                      sha256_safetensors_data(source / "hand.safetensors"),
                                      sha256_safetensors_data(source / "gates.safetensors")}));

  replace(source / "face.safetensors", folder / "hand.safetensors");
  const auto second = open(files);
  EXPECT_NE(second, first);
  EXPECT_EQ(second->sha256[1], second->sha256[0]);
  EXPECT_EQ(open(files), second);

  ExpertFiles none(0);
  EXPECT_NE(open(none), open(none)) << "kept beyond the limit";

  fs::remove(folder / "hand.safetensors");
  test::expect_error<FileError>([&] { open(files); }, {"hand.safetensors", "missing"});
}

}  // namespace
}  // namespace molar
