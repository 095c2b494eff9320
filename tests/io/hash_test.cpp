#include "molar/io/hash.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "molar/io/safetensors.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;
using test::TempFolder;

// FIPS 180-2, appendix B.
constexpr const char* kOfAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kOfNothing =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kOfAMillionAs =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(sha256_hex("abc"), kOfAbc);
  EXPECT_EQ(sha256_hex(""), kOfNothing);
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')), kOfAMillionAs);
}

TEST(Sha256, OfAFileIsOfItsBytes) {
  const TempFolder folder;
  EXPECT_EQ(sha256_file(folder.file("empty", "")), kOfNothing);
  EXPECT_EQ(sha256_file(folder.file("abc", "abc")), kOfAbc);
  const std::string long_bytes(3'500'001, 'z');  // more than one read
  EXPECT_EQ(sha256_file(folder.file("long", long_bytes)), sha256_hex(long_bytes));
  expect_error<FileError>([&] { sha256_file(folder / "none"); }, {"none", "No such file"});
  expect_error<FileError>([&] { sha256_file(folder.path()); }, {"folder"});
}

TEST(Sha256, OfSafetensorsDataIgnoresHeaderAndMetadata) {
  const TempFolder folder;
  const StateDict tensors = {{"a", at::arange(3, at::kByte)}};
  const auto one = write_safetensors(folder / "1", OnExist::kError, tensors, {{"title", "one"}});
  const auto two = write_safetensors(folder / "2", OnExist::kError, tensors, {});
  EXPECT_EQ(sha256_safetensors_data(one), sha256_hex(std::string("\0\1\2", 3)));
  EXPECT_EQ(sha256_safetensors_data(one), sha256_safetensors_data(two));
  EXPECT_NE(sha256_file(one), sha256_file(two));
  expect_error<FileError>([&] { sha256_safetensors_data(folder.file("x", "abc")); }, {"3 bytes"});
}

TEST(ReadFile, ReadsAllBytesAndHoldsTheLimit) {
  const TempFolder folder;
  const auto path = folder.file("a", std::string("x\0y", 3));
  EXPECT_EQ(read_file(path, 3), std::string("x\0y", 3));
  expect_error<FileError>([&] { read_file(path, 2); }, {"3 bytes", "more than the 2"});
  expect_error<FileError>([] { read_file("/dev/null", 9); }, {"/dev/null", "device"});
}

}  // namespace
}  // namespace molar
