#include "molar/io/sha256_manifest.h"

#include <gtest/gtest.h>

#include "molar/io/hash.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;
using test::TempFolder;

// SHA-256 of "abc": FIPS 180-2, appendix B.1.
const std::string kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Sha256Manifest, FindsWhatIsMissingAndWhatWasChanged) {
  const TempFolder folder;
  folder.file("good", "abc");
  folder.file("changed", "abd");
  folder.file("another", "counts for nothing");
  std::filesystem::create_directory(folder / "below");
  folder.file("below/good too", "abc");
  folder.file("SHA256SUMS", kAbc + "  good\n" + kAbc + "  changed\n" + kAbc + "  gone\n" + kAbc +
                                "  below/good too\n");
  const ManifestCheck check = check_sha256_manifest(folder.path());
  EXPECT_EQ(check.num_files, 4);
  ASSERT_EQ(check.problems.size(), 2U);
  EXPECT_EQ(check.problems[0].file, "changed");
  EXPECT_EQ(check.problems[0].what,
            "changed: its SHA-256 is " + sha256_hex("abd") + ", wanted " + kAbc);
  EXPECT_EQ(check.problems[1].file, "gone");
  EXPECT_EQ(check.problems[1].what, "missing");
}

TEST(Sha256Manifest, IsRefusedWhereItIsNone) {
  const TempFolder folder;
  const auto check = [&] { check_sha256_manifest(folder.path()); };
  expect_error<FileError>(check, {"SHA256SUMS", "No such file"});
  for (const std::string& text :
       {std::string("hello\n"), kAbc + "\n", kAbc + " file\n", kAbc.substr(1) + "  file\n",
        kAbc + "  ../file\n", kAbc + "  /etc/passwd\n", kAbc + "  \n", std::string("\n")}) {
    folder.file("SHA256SUMS", text);
    expect_error<FileError>(check, {"SHA256SUMS", "line 1", "SHA-256"});
  }
  folder.file("SHA256SUMS", "");
  expect_error<FileError>(check, {"SHA256SUMS", "names no file"});
}

}  // namespace
}  // namespace molar
