#include "molar/io/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "molar/core/error.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;
using test::read_bytes;
using test::TempFolder;

std::string length_prefix(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

/// A file's bytes: the header as it stands, then `data_bytes` bytes 0, 1, 2, ...
std::string raw_file(const std::string& header, size_t data_bytes = 0) {
  std::string bytes = length_prefix(header.size()) + header;
  for (size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

class SafetensorsReading : public testing::Test {
 protected:
  SafetensorsFile open(const std::string& bytes) const {
    return SafetensorsFile::open(folder_.file("x.safetensors", bytes));
  }
  void expect_refused(const std::string& bytes,
                      std::initializer_list<std::string_view> pieces) const {
    const std::string message = expect_error<FileError>([&] { open(bytes); }, pieces);
    EXPECT_NE(message.find("x.safetensors"), std::string::npos) << message;
  }
  const TempFolder folder_;
};

TEST_F(SafetensorsReading, TakesAWholeFile) {
  const auto file = open(raw_file(R"({"__metadata__":{"format":"pt"},)"
                                  R"("a":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]},)"
                                  R"("b":{"dtype":"I16","shape":[],"data_offsets":[6,8]}}  )",
                                  8));
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(file.entries().size(), 2U);
  EXPECT_EQ(file.entries().at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(at::equal(file.tensor("a"), at::arange(6, at::kByte).reshape({2, 3})));
  EXPECT_EQ(file.tensor("b").item<int16_t>(), 0x0706);
  EXPECT_EQ(file.data_bytes(), std::string("\0\1\2\3\4\5\6\7", 8));
  EXPECT_EQ(file.state_dict().size(), 2U);
}

TEST_F(SafetensorsReading, TakesAFileWithoutTensors) {
  EXPECT_TRUE(open(raw_file("{}")).entries().empty());
  EXPECT_TRUE(open(raw_file(R"({"__metadata__":{}})")).metadata().empty());
}

TEST_F(SafetensorsReading, TakesEmptyTensorsAnywhere) {
  const auto file = open(raw_file(R"({"a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},)"
                                  R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                                  R"("c":{"dtype":"F32","shape":[3,0],"data_offsets":[2,2]}})",
                                  2));
  EXPECT_EQ(file.tensor("a").sizes(), at::IntArrayRef({0, 4}));
  EXPECT_EQ(file.tensor("c").sizes(), at::IntArrayRef({3, 0}));
}

TEST_F(SafetensorsReading, MapsEveryDtypeThatLibtorchHas) {
  const std::tuple<const char*, at::ScalarType, int> rows[] = {
      {"BOOL", at::kBool, 1},
      {"U8", at::kByte, 1},
      {"I8", at::kChar, 1},
      {"F8_E5M2", at::kFloat8_e5m2, 1},
      {"F8_E4M3", at::kFloat8_e4m3fn, 1},
      {"F8_E8M0", at::kFloat8_e8m0fnu, 1},
      {"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz, 1},
      {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz, 1},
      {"I16", at::kShort, 2},
      {"U16", at::kUInt16, 2},
      {"F16", at::kHalf, 2},
      {"BF16", at::kBFloat16, 2},
      {"I32", at::kInt, 4},
      {"U32", at::kUInt32, 4},
      {"F32", at::kFloat, 4},
      {"C64", at::kComplexFloat, 8},
      {"F64", at::kDouble, 8},
      {"I64", at::kLong, 8},
      {"U64", at::kUInt64, 8},
  };
  for (const auto& [name, dtype, size_bytes] : rows) {
    const auto file = open(raw_file("{\"t\":{\"dtype\":\"" + std::string(name) +
                                        "\",\"shape\":[1],\"data_offsets\":[0," +
                                        std::to_string(size_bytes) + "]}}",
                                    static_cast<size_t>(size_bytes)));
    EXPECT_EQ(file.tensor("t").scalar_type(), dtype) << name;
    EXPECT_EQ(file.tensor("t").nbytes(), static_cast<size_t>(size_bytes)) << name;
  }
}

TEST_F(SafetensorsReading, CopiesOnlyMisalignedTensors) {
  // The header is padded so that data starts at a multiple of 8; "b" then stands at 1 modulo 4.
  std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                       R"("c":{"dtype":"U8","shape":[3],"data_offsets":[5,8]},)"
                       R"("d":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  const auto file = open(raw_file(header, 12));
  const char* const data = file.data_bytes().data();
  EXPECT_EQ(file.tensor("a").const_data_ptr(), data);
  EXPECT_EQ(file.tensor("d").const_data_ptr(), data + 8);
  const Tensor copied = file.tensor("b");
  EXPECT_EQ(std::memcmp(copied.const_data_ptr(), data + 1, 4), 0);
  EXPECT_TRUE(copied.const_data_ptr() < data || copied.const_data_ptr() >= data + 12);
}

TEST_F(SafetensorsReading, TensorsOutliveTheFileAndItsName) {
  Tensor tensor;
  {
    const auto file = open(raw_file(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4));
    tensor = file.tensor("a");
  }
  std::filesystem::remove(folder_ / "x.safetensors");
  EXPECT_TRUE(at::equal(tensor, at::arange(4, at::kByte)));
}

TEST_F(SafetensorsReading, NamesTheTensorThatIsNotThere) {
  const auto file = open(raw_file("{}"));
  expect_error<FileError>([&] { file.tensor("unet.x"); }, {"x.safetensors", "no tensor 'unet.x'"});
}

TEST_F(SafetensorsReading, RefusesWhatIsNoRegularFile) {
  expect_error<FileError>([&] { SafetensorsFile::open(folder_ / "none.safetensors"); },
                          {"none.safetensors", "No such file"});
  expect_error<FileError>([&] { SafetensorsFile::open(folder_.path()); }, {"folder"});
  expect_error<FileError>([] { SafetensorsFile::open("/dev/zero"); }, {"/dev/zero", "device"});
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_error<FileError>([&] { SafetensorsFile::open(folder_ / "pipe"); }, {"pipe"});
}

TEST_F(SafetensorsReading, RefusesFilesThatAreTooShort) {
  expect_refused("", {"has 0 bytes", "at least 8"});
  expect_refused("1234567", {"has 7 bytes"});
  expect_refused(length_prefix(0), {"does not start with '{'"});
  expect_refused(length_prefix(2) + "{", {"cut short", "says 2 bytes, 1 are left"});
}

TEST_F(SafetensorsReading, RefusesHeaderLengthsPastTheLimit) {
  expect_refused(length_prefix(100'000'001) + "{}", {"100000001", "the most is 100000000"});
  expect_refused(length_prefix(UINT64_MAX) + "{}", {"18446744073709551615"});
  expect_refused(length_prefix(UINT64_MAX - 7) + "{}", {"the most is"});
}

TEST_F(SafetensorsReading, GuessesWhatAWrongFileIs) {
  expect_refused(std::string("PK\x03\x04") + std::string(60, 'x'), {"pickle", "convert"});
  expect_refused(std::string("\x80\x02}q\x01.........", 14), {"pickle"});
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", {"git lfs pull"});
  expect_refused("<!DOCTYPE html><html>", {"web page"});
  expect_refused("GGUF............", {"GGUF"});
}

TEST_F(SafetensorsReading, RefusesHeadersThatAreNotJson) {
  expect_refused(raw_file("[]"), {"does not start with '{'"});
  expect_refused(raw_file(" {}"), {"does not start with '{'"});
  expect_refused(raw_file("{"), {"not JSON"});
  expect_refused(raw_file("{}x"), {"not JSON"});
  expect_refused(raw_file("{}{}"), {"not JSON"});
  expect_refused(raw_file(std::string("{}\0", 3)), {"not JSON", "NUL byte"});
  expect_refused(raw_file("{\"a\xFF\":{}}"), {"not JSON"});
  expect_refused(raw_file(R"({"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}})", 1),
                 {"not JSON"});
}

TEST_F(SafetensorsReading, RefusesDeepNestingWithoutRecursion) {
  const std::string many(1'000'000, '[');
  expect_refused(raw_file("{\"a\":" + many), {"must be an object, is a list"});
  expect_refused(raw_file("{\"a\":{\"shape\":" + many), {"whole numbers", "a list"});
  expect_refused(raw_file(R"({"a":{"b":{}}})"), {"unknown key 'b'"});
  expect_refused(raw_file(R"({"a":{"dtype":{}}})"), {"dtype must be a string, is an object"});
}

TEST_F(SafetensorsReading, RefusesDuplicateKeysAtEveryLevel) {
  const std::string entry = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  expect_refused(raw_file("{" + entry + "," + entry + "}"), {"'a'", "twice"});
  expect_refused(raw_file(R"({"__metadata__":{},"__metadata__":{}})"), {"'__metadata__'", "twice"});
  expect_refused(raw_file(R"({"__metadata__":{"k":"1","k":"2"}})"), {"key 'k' appears twice"});
  expect_refused(raw_file(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})"),
                 {"'dtype' appears twice"});
  expect_refused(raw_file(R"({"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}})"),
                 {"'shape' appears twice"});
  expect_refused(
      raw_file(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})"),
      {"'data_offsets' appears twice"});
}

TEST_F(SafetensorsReading, RefusesMetadataThatIsNotText) {
  expect_refused(raw_file(R"({"__metadata__":{"k":1}})"),
                 {"'__metadata__'", "'k' must be a string", "number 1"});
  expect_refused(raw_file(R"({"__metadata__":{"k":null}})"), {"'k' must be a string", "null"});
  expect_refused(raw_file(R"({"__metadata__":{"k":{"a":"b"}}})"),
                 {"'k' must be a string", "an object"});
  expect_refused(raw_file(R"({"__metadata__":{"k":["a"]}})"), {"'k' must be a string", "a list"});
  expect_refused(raw_file(R"({"__metadata__":"x"})"), {"must be an object, is a string"});
}

TEST_F(SafetensorsReading, RefusesEntriesOfTheWrongType) {
  expect_refused(raw_file(R"({"a":1})"), {"'a'", "must be an object, is the number 1"});
  expect_refused(raw_file(R"({"a":true})"), {"a boolean"});
  expect_refused(raw_file(R"({"a":{"dtype":1}})"), {"dtype must be a string", "number 1"});
  expect_refused(raw_file(R"({"a":{"shape":"1"}})"), {"shape must be a list", "a string"});
  expect_refused(raw_file(R"({"a":{"shape":{}}})"), {"shape must be a list", "an object"});
  expect_refused(raw_file(R"({"a":{"shape":["1"]}})"),
                 {"shape must hold whole numbers", "a string"});
  expect_refused(raw_file(R"({"a":{"shape":[1.0]}})"),
                 {"shape must hold whole numbers", "fraction 1.0"});
  expect_refused(raw_file(R"({"a":{"shape":[-1]}})"),
                 {"shape must hold whole numbers", "negative number -1"});
  expect_refused(raw_file(R"({"a":{"data_offsets":5}})"),
                 {"data_offsets must be a list", "number 5"});
  expect_refused(raw_file(R"({"a":{"data_offsets":[0.5,1]}})"),
                 {"data_offsets must hold whole numbers"});
  expect_refused(raw_file(R"({"a":{"data_offsets":[-1,1]}})"),
                 {"data_offsets must hold whole numbers"});
  expect_refused(raw_file(R"({"a":{"data_offsets":[0,1,2]}})"), {"more than two numbers"});
}

TEST_F(SafetensorsReading, RefusesIncompleteEntries) {
  expect_refused(raw_file(R"({"a":{}})"), {"'a'", "has no dtype"});
  expect_refused(raw_file(R"({"a":{"dtype":"U8"}})"), {"has no shape"});
  expect_refused(raw_file(R"({"a":{"dtype":"U8","shape":[0]}})"),
                 {"data_offsets must be two numbers"});
  expect_refused(raw_file(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}})"),
                 {"must be two numbers"});
  expect_refused(raw_file(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"strides":[1]}})"),
                 {"unknown key 'strides'"});
}

TEST_F(SafetensorsReading, RefusesDtypesByName) {
  for (const char* name : {"F4", "F6_E2M3", "Q4_0", "float32", ""})
    expect_refused(raw_file("{\"a\":{\"dtype\":\"" + std::string(name) +
                            "\",\"shape\":[0],\"data_offsets\":[0,0]}}"),
                   {"dtype '" + std::string(name) + "'"});
}

TEST_F(SafetensorsReading, RefusesShapesThatOverflow) {
  const auto entry = [](const std::string& shape) {
    return raw_file("{\"a\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":[0,0]}}");
  };
  expect_refused(entry("[9223372036854775808]"), {"past the range of int64"});
  expect_refused(entry("[18446744073709551616]"),
                 {"a", "fraction"});  // JSON readers see a double here
  expect_refused(entry("[4611686018427387904,4]"), {"overflows"});  // wraps to zero bytes
  expect_refused(entry("[4294967296,4294967296]"), {"overflows"});
  expect_refused(entry("[9223372036854775807]"), {"overflows"});
  expect_refused(entry("[0,4294967296,4294967296]"),
                 {"overflows"});  // empty, but its strides overflow
}

TEST_F(SafetensorsReading, RefusesMoreThan64Axes) {
  std::string shape = "[1";
  for (int i = 1; i < 64; ++i) shape += ",1";
  const auto entry = [](const std::string& text) {
    return raw_file("{\"a\":{\"dtype\":\"U8\",\"shape\":" + text + ",\"data_offsets\":[0,1]}}", 1);
  };
  EXPECT_EQ(open(entry(shape + "]")).tensor("a").dim(), 64);
  expect_refused(entry(shape + ",1]"), {"more than 64 axes"});
}

TEST_F(SafetensorsReading, RefusesSizesThatContradictTheShape) {
  expect_refused(raw_file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
                 {"hold 4 bytes", "shape [2] of F32 needs 8"});
  expect_refused(raw_file(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}})", 4),
                 {"needs 0"});
  expect_refused(raw_file(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1),
                 {"run backwards"});
}

TEST_F(SafetensorsReading, RefusesOverlapsHolesAndDataOfNobody) {
  const auto two = [](const std::string& first, const std::string& second, size_t data_bytes) {
    return raw_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" + first +
                        "},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" + second + "}}",
                    data_bytes);
  };
  EXPECT_NO_THROW(open(two("[2,4]", "[0,2]", 4)));
  expect_refused(two("[0,2]", "[1,3]", 3), {"'b' begins at byte 1", "overlap"});
  expect_refused(two("[0,2]", "[0,2]", 2), {"overlap"});
  expect_refused(two("[0,2]", "[3,5]", 5), {"'b' begins at byte 3", "hole"});
  expect_refused(two("[1,3]", "[3,5]", 5), {"'a' begins at byte 1", "hole"});
  expect_refused(two("[0,2]", "[2,4]", 5), {"end at byte 4", "has 5", "the last 1 bytes"});
  expect_refused(two("[0,2]", "[2,4]", 3), {"'b' ends at byte 4", "which has 3", "cut short"});
  expect_refused(raw_file("{}", 1), {"end at byte 0"});
  expect_refused(two("[0,2]", "[18446744073709551613,18446744073709551615]", 4), {"ends at byte"});
}

TEST_F(SafetensorsReading, MessagesStayOneLineWhateverNamesHold) {
  const std::string name = "a\\nb\\u001b[31m" + std::string(100'000, 'x');
  const std::string message = expect_error<FileError>(
      [&] { open(raw_file("{\"" + name + "\":1}")); }, {"a\\nb\\x1b[31mxxx"});
  EXPECT_LT(message.size(), 2100U);
}

// --- release_mapped_pages
// ---------------------------------------------------------------------------

size_t num_resident_pages(const void* begin, size_t size_bytes) {
  const auto page_bytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t first = reinterpret_cast<uintptr_t>(begin) / page_bytes * page_bytes;
  const uintptr_t last = reinterpret_cast<uintptr_t>(begin) + size_bytes;
  // mincore() would count the page cache; the process's own page table says what this mapping
  // holds.
  std::ifstream pagemap;
  pagemap.rdbuf()->pubsetbuf(nullptr, 0);  // the file takes reads of whole entries only
  pagemap.open("/proc/self/pagemap", std::ios::binary);
  size_t count = 0;
  for (uintptr_t page = first; page < last; page += page_bytes) {
    uint64_t entry = 0;
    pagemap.seekg(static_cast<std::streamoff>(page / page_bytes * 8));
    pagemap.read(reinterpret_cast<char*>(&entry), 8);
    count += entry >> 63;
  }
  return count;
}

TEST_F(SafetensorsReading, ReleasedPagesLeaveMemoryAndComeBackUnchanged) {
  const auto path = folder_ / "big.safetensors";
  const Tensor values = at::arange(1 << 20, at::kFloat);  // 4 MiB
  write_safetensors(path, OnExist::kOverwrite, {{"a", values}, {"b", values + 1}}, {});
  const auto file = SafetensorsFile::open(path);
  const Tensor a = file.tensor("a"), b = file.tensor("b");
  ASSERT_TRUE(at::equal(a, values) && at::equal(b, values + 1));  // touches every page
  const size_t before_a = num_resident_pages(a.const_data_ptr(), a.nbytes());
  const size_t before_b = num_resident_pages(b.const_data_ptr(), b.nbytes());
  ASSERT_GE(before_a, 1024U);
  release_mapped_pages(a);
  EXPECT_LE(num_resident_pages(a.const_data_ptr(), a.nbytes()),
            2U);  // the two shared with neighbours
  EXPECT_GE(num_resident_pages(b.const_data_ptr(), b.nbytes()) + 1, before_b);
  EXPECT_TRUE(at::equal(a, values));
}

TEST_F(SafetensorsReading, ReleaseLeavesOrdinaryTensorsAlone) {
  const Tensor ordinary = at::full({1 << 20}, 3.0, at::kFloat);
  release_mapped_pages(ordinary);  // dropping anonymous pages would turn it into zeros
  EXPECT_TRUE(at::equal(ordinary, at::full({1 << 20}, 3.0, at::kFloat)));
  EXPECT_NO_THROW(release_mapped_pages(Tensor()));
  EXPECT_NO_THROW(release_mapped_pages(at::empty({0})));
}

TEST_F(SafetensorsReading, ReleaseOfASliceKeepsItsNeighbours) {
  const auto path = folder_ / "big.safetensors";
  const Tensor values = at::arange(1 << 20, at::kFloat).reshape({1024, 1024});
  write_safetensors(path, OnExist::kOverwrite, {{"a", values}}, {});
  const Tensor a = SafetensorsFile::open(path).tensor("a");
  release_mapped_pages(a.slice(0, 100, 200));
  release_mapped_pages(a.t());  // not contiguous: nothing to release
  EXPECT_TRUE(at::equal(a, values));
}

// --- write_safetensors
// ------------------------------------------------------------------------------

TEST(SafetensorsWriting, WritesWhatTheReferenceImplementationWrites) {
  const TempFolder folder;
  const StateDict tensors = {{"b", at::arange(3, at::kFloat)},
                             {"a", at::ones({2}, at::kHalf)},
                             {"c", at::arange(2, at::kLong)},
                             {"gr\xC3\xBC\"n", at::zeros({1}, at::kByte)}};
  const auto path =
      write_safetensors(folder / "x.safetensors", OnExist::kError, tensors, {{"format", "pt"}});
  // safetensors 0.8.0 for Python writes exactly this for the same tensors (wide types first, then
  // names).
  std::string header =
      R"({"__metadata__":{"format":"pt"},"c":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"F32","shape":[3],"data_offsets":[16,28]},"a":{"dtype":"F16","shape":[2],"data_offsets":[28,32]},)"
      "\"gr\xC3\xBC\\\"n\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[32,33]}}";
  header.append((8 - header.size() % 8) % 8, ' ');
  const std::string bytes = read_bytes(path);
  ASSERT_GT(bytes.size(), header.size() + 8);
  EXPECT_EQ(bytes.substr(8, header.size()), header);
  EXPECT_EQ(bytes.substr(0, 8), length_prefix(header.size()));
  EXPECT_EQ(bytes.size(), 8 + header.size() + 33);
}

TEST(SafetensorsWriting, ComesBackEqualInEveryDtype) {
  const TempFolder folder;
  StateDict tensors;
  for (const at::ScalarType dtype :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
        at::kFloat, at::kDouble, at::kComplexFloat, at::kFloat8_e4m3fn, at::kFloat8_e5m2,
        at::kUInt16, at::kUInt32, at::kUInt64})
    tensors[std::string("t.") + c10::toString(dtype)] =
        at::arange(6, at::kFloat).reshape({2, 3}).to(dtype);
  tensors["scalar"] = at::scalar_tensor(1.5);
  tensors["empty"] = at::empty({0, 7});
  tensors["strided"] = at::arange(6, at::kFloat).reshape({2, 3}).t();
  const auto path = write_safetensors(folder / "x.safetensors", OnExist::kError, tensors, {});
  const auto file = SafetensorsFile::open(path);
  EXPECT_TRUE(file.metadata().empty());
  ASSERT_EQ(file.entries().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor read = file.tensor(name);
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(read.sizes(), tensor.sizes()) << name;
    const Tensor packed = tensor.contiguous();
    if (packed.numel() == 0) continue;  // no bytes to compare, and no address either
    EXPECT_EQ(std::memcmp(read.const_data_ptr(), packed.const_data_ptr(), packed.nbytes()), 0)
        << name;
  }
}

TEST(SafetensorsWriting, EveryTensorIsAligned) {
  const TempFolder folder;
  const StateDict tensors = {{"a", at::ones({3}, at::kByte)},
                             {"b", at::ones({3}, at::kLong)},
                             {"c", at::ones({3}, at::kHalf)},
                             {"d", at::ones({3}, at::kFloat)}};
  const auto path = write_safetensors(folder / "x", OnExist::kError, tensors, {{"k", "v"}});
  const auto file = SafetensorsFile::open(path);
  for (const auto& [name, entry] : file.entries()) {
    const char* const begin = file.data_bytes().data() + entry.begin_bytes;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(begin) % tensors.at(name).itemsize(), 0U) << name;
    EXPECT_EQ(file.tensor(name).const_data_ptr(), begin) << name;
  }
}

TEST(SafetensorsWriting, KeepsMetadataWhateverItHolds) {
  const TempFolder folder;
  const std::map<std::string, std::string> metadata = {{"", "empty key"},
                                                       {"json", R"({"a":["b\n"]})"},
                                                       {"han", "\xE7\x8C\xAB"},
                                                       {"nul", std::string("a\0b", 3)}};
  const auto path = write_safetensors(folder / "x", OnExist::kError, {}, metadata);
  EXPECT_EQ(SafetensorsFile::open(path).metadata(), metadata);
}

TEST(SafetensorsWriting, LateMetadataStandInThePlaceOfTheFirst) {
  const TempFolder folder;
  const StateDict tensors = {{"a", at::arange(6, at::kFloat)}};
  const SafetensorsMetadata known{{"hash", "0000"}, {"k", "v"}}, late{{"hash", "a1b2"}, {"k", "v"}};
  const auto path =
      write_safetensors(folder / "x", OnExist::kError, tensors, known, [&] { return late; });
  const auto file = SafetensorsFile::open(path);
  EXPECT_EQ(file.metadata(), late);
  EXPECT_TRUE(at::equal(file.tensor("a"), tensors.at("a")));
  const auto at_once = write_safetensors(folder / "y", OnExist::kError, tensors, late);
  EXPECT_EQ(read_bytes(path), read_bytes(at_once));
}

TEST(SafetensorsWriting, WhatLateMetadataThrowLeavesNothing) {
  const TempFolder folder;
  const StateDict tensors = {{"a", at::arange(6, at::kFloat)}};
  const auto write = [&](const std::function<SafetensorsMetadata()>& late) {
    write_safetensors(folder / "x", OnExist::kError, tensors, {{"hash", "0000"}}, late);
  };
  expect_error<FileError>([&] { write([]() -> SafetensorsMetadata { throw FileError("gone"); }); },
                          {"gone"});
  EXPECT_THROW(write([] { return SafetensorsMetadata{{"hash", "too long to fit in"}}; }),
               c10::Error);
  EXPECT_EQ(folder.num_entries(), 0U);
}

TEST(SafetensorsWriting, MetadataThatIsNotUtf8DoesNotCostTheResult) {
  const TempFolder folder;
  const auto path = write_safetensors(folder / "x", OnExist::kError, {}, {{"file", "caf\xE9.png"}});
  EXPECT_EQ(SafetensorsFile::open(path).metadata().at("file"), "caf\xEF\xBF\xBD.png");
}

TEST(SafetensorsWriting, RefusesADtypeThatTheFormatLacks) {
  const TempFolder folder;
  const StateDict tensors = {{"z", at::zeros({1}, at::kComplexDouble)}};
  expect_error<FileError>([&] { write_safetensors(folder / "x", OnExist::kError, tensors, {}); },
                          {"tensor 'z'", "lacks"});
  EXPECT_EQ(folder.num_entries(), 0U);
}

TEST(SafetensorsWriting, RefusesTheReservedName) {
  const TempFolder folder;
  expect_error<FileError>(
      [&] {
        write_safetensors(folder / "x", OnExist::kError, {{"__metadata__", at::zeros({1})}}, {});
      },
      {"__metadata__"});
}

TEST(SafetensorsWriting, FollowsTheOnExistRule) {
  const TempFolder folder;
  write_safetensors(folder / "x.safetensors", OnExist::kError, {}, {});
  EXPECT_EQ(write_safetensors(folder / "x.safetensors", OnExist::kNumber, {}, {}),
            folder / "x-1.safetensors");
  EXPECT_THROW(write_safetensors(folder / "x.safetensors", OnExist::kError, {}, {}), ConfigError);
}

}  // namespace
}  // namespace molar
