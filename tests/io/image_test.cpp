#include "molar/io/image.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "molar/core/error.h"
#include "molar/core/log.h"
#include "molar/io/json_config.h"
#include "molar/io/safetensors.h"
#include "picture_file.h"
#include "png_chunks.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using namespace std::string_literals;
using test::expect_error;
using test::read_bytes;
using test::TempFolder;

const std::filesystem::path kGoldens = std::filesystem::path(MOLAR_TEST_DATA_DIR) / "image";

std::string big_endian(uint64_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xFF);
  return bytes;
}

std::string chunk(const std::string& type, const std::string& data) {
  const std::string checked = type + data;
  const auto crc = ::crc32_z(0, reinterpret_cast<const Bytef*>(checked.data()), checked.size());
  return big_endian(data.size()) + checked + big_endian(crc);
}

std::string deflated(const std::string& text) {
  std::string packed(compressBound(text.size()), '\0');
  uLongf size = packed.size();
  compress(reinterpret_cast<Bytef*>(packed.data()), &size,
           reinterpret_cast<const Bytef*>(text.data()), text.size());
  packed.resize(size);
  return packed;
}

std::string header(uint64_t width, uint64_t height, char bit_depth = 8, char color_type = 2) {
  return chunk("IHDR", big_endian(width) + big_endian(height) + bit_depth + color_type + "\0\0\0"s);
}

const std::string kSignature(kPngSignature);
const std::string kEnd = chunk("IEND", "");
/// 2 x 1 pixels: red, green.
const std::string kData = chunk("IDAT", deflated("\0\xFF\0\0\0\xFF\0"s));
const std::string kTwoPixels = kSignature + header(2, 1) + kData + kEnd;

std::string png_with(const std::string& chunks) {
  return kSignature + header(2, 1) + chunks + kData + kEnd;
}

// --- the same pixels as diffusers and Pillow
// --------------------------------------------------------

TEST(ReadImage, GivesThePixelsOfDiffusersForEveryGolden) {
  const Json manifest = read_json_file(kGoldens / "MANIFEST.json");
  const auto goldens = SafetensorsFile::open(kGoldens / "pixels.safetensors");
  ASSERT_EQ(manifest.at("pictures").size() * 2, goldens.entries().size());
  ASSERT_GE(manifest.at("pictures").size(), 40U);
  const LogSession quiet(Verbosity::kQuiet);
  for (const std::string name : manifest.at("pictures")) {
    SCOPED_TRACE(name);
    const Tensor rgb = read_image(kGoldens / name), grey = read_mask(kGoldens / name);
    const Tensor wanted_rgb = goldens.tensor(name + ".rgb"),
                 wanted_grey = goldens.tensor(name + ".grey");
    ASSERT_EQ(rgb.sizes(), wanted_rgb.sizes());
    ASSERT_EQ(grey.sizes(), wanted_grey.sizes());
    EXPECT_EQ((rgb.to(at::kInt) - wanted_rgb.to(at::kInt)).abs().max().item<int>(), 0);
    EXPECT_EQ((grey.to(at::kInt) - wanted_grey.to(at::kInt)).abs().max().item<int>(), 0);
    EXPECT_TRUE(rgb.is_contiguous() && grey.is_contiguous());
  }
}

TEST(ReadImage, WarnsOfGreyValuesThatPillowClips) {
  const LogSession log(Verbosity::kQuiet);
  read_image(kGoldens / "grey16.png");
  ASSERT_EQ(log.warnings().size(), 1U);
  EXPECT_NE(log.warnings()[0].find("grey16.png' is 16-bit grey"), std::string::npos);
}

TEST(Resize, IsPillowsBitForBitWithEveryFilter) {
  const std::pair<const char*, ResizeFilter> filters[] = {{"bilinear", ResizeFilter::kBilinear},
                                                          {"bicubic", ResizeFilter::kBicubic},
                                                          {"lanczos", ResizeFilter::kLanczos}};
  const Json manifest = read_json_file(kGoldens / "MANIFEST.json");
  const auto goldens = SafetensorsFile::open(kGoldens / "resize.safetensors");
  ASSERT_GE(manifest.at("resize").size(), 10U);
  ASSERT_EQ(manifest.at("filters").size(), std::size(filters));
  for (const Json& one : manifest.at("resize")) {
    const std::string name = one.at("input");
    const int64_t height = one.at("height"), width = one.at("width");
    for (const auto& [filter_name, filter] : filters) {
      const std::string key = fmt::format("out.{}.{}x{}.{}", name, height, width, filter_name);
      EXPECT_TRUE(at::equal(resize(goldens.tensor("in." + name), height, width, filter),
                            goldens.tensor(key)))
          << key;
    }
  }
}

TEST(Resize, LeavesAPictureOfTheRightSizeAlone) {
  const Tensor pixels = at::randint(0, 256, {5, 4, 3}).to(at::kByte);
  EXPECT_TRUE(at::equal(resize(pixels, 5, 4), pixels));
}

TEST(Resize, KeepsAFlatPictureFlat) {
  const Tensor resized = resize(at::full({9, 31, 3}, 200, at::kByte), 57, 8);
  EXPECT_TRUE(at::equal(resized, at::full({57, 8, 3}, 200, at::kByte)));
}

TEST(Resize, RefusesOtherTensorsAndSizes) {
  expect_error<Error>([] { resize(at::zeros({4, 4, 3}), 2, 2); }, {"uint8", "float32"});
  expect_error<Error>([] { resize(at::zeros({4}, at::kByte), 2, 2); }, {"[4]"});
  expect_error<Error>([] { resize(at::zeros({0, 4}, at::kByte), 2, 2); }, {"[0, 4]"});
  expect_error<Error>([] { resize(at::zeros({4, 4}, at::kByte), 0, 2); }, {"2 x 0"});
}

// --- files that are refused
// -------------------------------------------------------------------------

class PictureFiles : public testing::Test {
 protected:
  void expect_refused(const std::string& bytes,
                      std::initializer_list<std::string_view> pieces) const {
    const auto path = folder_.file("x.png", bytes);
    const std::string message = expect_error<InputError>([&] { read_image(path); }, pieces);
    EXPECT_NE(message.find("x.png"), std::string::npos) << message;
    EXPECT_THROW(read_mask(path), InputError);
  }
  Tensor read(const std::string& bytes) const { return read_image(folder_.file("x.png", bytes)); }
  const TempFolder folder_;
};

TEST_F(PictureFiles, TheHandMadeOneIsRead) {
  EXPECT_TRUE(at::equal(read(kTwoPixels),
                        at::tensor({255, 0, 0, 0, 255, 0}, at::kByte).reshape({1, 2, 3})));
  EXPECT_NO_THROW(read(kTwoPixels + "what follows the end"));
}

TEST_F(PictureFiles, MissingFilesAndOtherThingsAreInputErrors) {
  expect_error<InputError>([&] { read_image(folder_ / "none.png"); }, {"none.png", "No such file"});
  expect_error<InputError>([&] { read_image(folder_.path()); }, {"folder"});
  expect_error<InputError>([&] { read_mask("/dev/zero"); }, {"device"});
}

TEST_F(PictureFiles, OtherFormatsAreNamed) {
  expect_refused("", {"wanted a PNG or JPEG picture, found an empty file"});
  expect_refused("x", {"found something else"});
  expect_refused("GIF89a......", {"found a GIF"});
  expect_refused("BM..........", {"found a BMP"});
  expect_refused("RIFF....WEBPVP8 ", {"found a WebP"});
  expect_refused("RIFF....WAVEfmt ", {"found something else"});
  expect_refused("II*\0........"s, {"found a TIFF"});
  expect_refused(
      "\0\0\0\x20"
      "ftypavif...."s,
      {"found an AVIF"});
  expect_refused(
      "\0\0\0\x20"
      "ftypheic...."s,
      {"found a HEIC"});
  expect_refused("<svg xmlns=...>", {"found a text (SVG"});
  expect_refused("\x89PNG\r\n\x1a", {"found something else"});
}

TEST_F(PictureFiles, EveryTruncationOfAPngIsRefused) {
  for (size_t length = 8; length < kTwoPixels.size(); ++length) {
    const auto path = folder_.file("cut.png", kTwoPixels.substr(0, length));
    EXPECT_THROW(read_image(path), InputError) << length;
  }
}

TEST_F(PictureFiles, EveryTruncationOfAJpegIsRefused) {
  for (const char* name : {"jpeg_420.jpg", "jpeg_progressive.jpg"}) {
    const std::string whole = read_bytes(kGoldens / name);
    // The last two bytes are the end marker, which decoders do not need once all pixels are there.
    for (size_t length = 3; length + 2 < whole.size(); length += 7) {
      const auto path = folder_.file("cut.jpg", whole.substr(0, length));
      EXPECT_THROW(read_image(path), InputError) << name << " " << length;
    }
  }
}

TEST_F(PictureFiles, AWrongChecksumIsRefusedInEveryChunk) {
  for (const size_t at : {size_t{8 + 8 + 13}, kTwoPixels.size() - 13, kTwoPixels.size() - 1}) {
    std::string bytes = kTwoPixels;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    expect_refused(bytes, {"checksum of PNG chunk"});
  }
  std::string text = chunk("tEXt", "a\0b"s);
  text.back() = static_cast<char>(text.back() ^ 1);
  expect_refused(png_with(text), {"checksum of PNG chunk tEXt"});
}

TEST_F(PictureFiles, BrokenChunkStructureIsRefused) {
  expect_refused(kSignature + kData + kEnd, {"does not start with its header"});
  expect_refused(kSignature + chunk("IHDR", "short") + kEnd, {"does not start with its header"});
  expect_refused(kSignature + big_endian(0xFFFFFFFF) + "IHDR" + std::string(40, 'x'),
                 {"should have 4294967295 bytes"});
  expect_refused(kSignature + header(2, 1) + "\0\0\0\0\x01\x02\x03\x04\0\0\0\0"s,
                 {"garbage where a chunk begins"});
  expect_refused(kSignature + header(2, 1) + kEnd, {"broken PNG"});
  expect_refused(kSignature + header(2, 1) + chunk("IDAT", "garbage") + kEnd, {"broken PNG"});
  expect_refused(kSignature + header(2, 1) + chunk("IDAT", deflated("\0\xFF"s)) + kEnd,
                 {"broken PNG"});
  expect_refused(png_with(chunk("ABCD", "a critical chunk that nobody knows")), {"broken PNG"});
  expect_refused(kSignature + header(2, 1, 8, 3) + kData + kEnd,
                 {"broken PNG"});  // palette missing
}

TEST_F(PictureFiles, ImpossibleHeadersAreRefused) {
  expect_refused(kSignature + header(2, 1, 7) + kData + kEnd, {"broken PNG"});
  expect_refused(kSignature + header(2, 1, 8, 5) + kData + kEnd, {"broken PNG"});
  expect_refused(kSignature + header(2, 1, 16, 3) + kData + kEnd, {"broken PNG"});
}

TEST_F(PictureFiles, OversizeIsRefusedBeforeAnythingIsDecoded) {
  for (const auto& [width, height] : std::initializer_list<std::pair<uint64_t, uint64_t>>{
           {16385, 1}, {1, 16385}, {0xFFFFFFFF, 0xFFFFFFFF}, {16384, 16384}, {13378, 13377}})
    expect_refused(kSignature + header(width, height) + kData + kEnd,
                   {"pixels; the most is 16384 a side"});
  expect_refused(kSignature + header(0, 1) + kData + kEnd, {"is empty"});
  expect_refused(kSignature + header(1, 0) + kData + kEnd, {"is empty"});
  EXPECT_NO_THROW(check_picture_size(16384, 10922, "x"));
}

/// The golden JPEG with its frame header's height and width replaced.
std::string jpeg_of_size(const std::string& name, uint16_t height, uint16_t width) {
  std::string bytes = read_bytes(kGoldens / name);
  const size_t frame = std::min(bytes.find("\xFF\xC0"), bytes.find("\xFF\xC2"));
  bytes.replace(frame + 5, 4, big_endian(uint32_t{height} << 16 | width));
  return bytes;
}

TEST_F(PictureFiles, OversizeJpegIsRefusedBeforeAnythingIsDecoded) {
  expect_refused(jpeg_of_size("jpeg_420.jpg", 60000, 65500), {"65500 x 60000 pixels; the most"});
  expect_refused(jpeg_of_size("jpeg_progressive.jpg", 16385, 1), {"1 x 16385 pixels; the most"});
  expect_refused(jpeg_of_size("jpeg_420.jpg", 0, 5), {"x.png' is a broken JPEG"});
  expect_refused(jpeg_of_size("jpeg_420.jpg", 65535, 65500),
                 {"x.png' is a broken JPEG"});  // libjpeg's own limit
}

TEST_F(PictureFiles, BrokenJpegIsRefused) {
  expect_refused("\xFF\xD8\xFF\xD9", {"broken JPEG"});
  expect_refused("\xFF\xD8\xFF" + std::string(100, 'x'), {"broken JPEG"});
  std::string two = read_bytes(kGoldens / "jpeg_444.jpg");
  two[two.find("\xFF\xC0") + 9] = 2;  // components
  expect_refused(two, {"JPEG"});
  std::string deep = read_bytes(kGoldens / "jpeg_444.jpg");
  deep[deep.find("\xFF\xC0") + 4] = 12;  // bits
  expect_refused(deep, {"broken JPEG"});
}

TEST_F(PictureFiles, AJpegOfEndlessScansIsRefused) {
  std::string bytes = read_bytes(kGoldens / "jpeg_progressive.jpg");
  const size_t scan = bytes.rfind("\xFF\xDA");
  const std::string last_scan = bytes.substr(scan, bytes.size() - scan - 2);
  bytes.resize(bytes.size() - 2);
  for (int i = 0; i < 600; ++i) bytes += last_scan;
  expect_refused(bytes + "\xFF\xD9", {"more than 500 scans"});
}

TEST_F(PictureFiles, ADamagedJpegIsReadWithAWarning) {
  std::string bytes = read_bytes(kGoldens / "jpeg_444.jpg");
  const size_t scan = bytes.find("\xFF\xDA");
  bytes.replace(scan + 40, 4, "\xFF\xD3\xFF\xD5");  // restart markers where none belong
  const LogSession log(Verbosity::kQuiet);
  EXPECT_NO_THROW(read(bytes));
  ASSERT_EQ(log.warnings().size(), 1U);
  EXPECT_NE(log.warnings()[0].find("damaged JPEG"), std::string::npos);
}

TEST_F(PictureFiles, AJpegWhoseDataEndEarlyIsReadWithAWarning) {
  const LogSession log(Verbosity::kQuiet);
  EXPECT_EQ(read(jpeg_of_size("jpeg_420.jpg", 100, 90)).sizes(), at::IntArrayRef({100, 90, 3}));
  ASSERT_EQ(log.warnings().size(), 1U);
}

TEST(PictureOrientation, MalformedBlocksCountAsUpright) {
  const std::string good = "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"s;
  EXPECT_EQ(picture_orientation(good, ""), 6);
  EXPECT_EQ(picture_orientation("Exif\0\0"s + good, ""), 6);
  EXPECT_EQ(picture_orientation("Exif\0\0Exif\0\0"s + good, ""), 6);
  EXPECT_EQ(picture_orientation("", ""), 1);
  EXPECT_EQ(picture_orientation("Exif\0\0"s, ""), 1);
  for (size_t length = 0; length < 20; ++length)
    EXPECT_EQ(picture_orientation(good.substr(0, length), ""), 1);
  std::string far_away = good, many_fields = good, wrong_type = good, two_values = good;
  far_away.replace(4, 4, "\xFF\xFF\xFF\xFF");
  many_fields.replace(8, 4, "\xFF\xFF\x01\x13");
  wrong_type[13] = 2;
  two_values[17] = 2;
  for (const auto& bad : {far_away, many_fields, wrong_type, two_values})
    EXPECT_EQ(picture_orientation(bad, ""), 1);
  EXPECT_EQ(picture_orientation(far_away, "tiff:Orientation=\"6\""), 6);
  EXPECT_EQ(picture_orientation("", "tiff:Orientation tiff:Orientation>5"), 5);
  EXPECT_EQ(picture_orientation("", "tiff:Orientation>"), 1);
  EXPECT_EQ(picture_orientation("", "tiff:Orientation=\"x"), 1);
}

// --- text
// -------------------------------------------------------------------------------------------

TEST_F(PictureFiles, EveryKindOfTextIsRead) {
  const auto path = folder_.file(
      "t.png", png_with(chunk("tEXt", "plain\0gr\xFC\xDF"s) +
                        chunk("zTXt", "packed\0\0"s + deflated("caf\xE9")) +
                        chunk("iTXt", "utf8\0\0\0de\0Text\0\xE7\x8C\xAB"s) +
                        chunk("iTXt", "both\0\1\0\0\0"s + deflated("\xF0\x9F\x90\x88")) +
                        chunk("tEXt", "plain\0again"s)));
  EXPECT_EQ(read_png_text(path), (PngText{{"plain", "gr\xC3\xBC\xC3\x9F"},
                                          {"packed", "caf\xC3\xA9"},
                                          {"utf8", "\xE7\x8C\xAB"},
                                          {"both", "\xF0\x9F\x90\x88"},
                                          {"plain", "again"}}));
}

TEST_F(PictureFiles, BrokenTextIsRefused) {
  const auto refuse = [&](const std::string& text_chunk,
                          std::initializer_list<std::string_view> pieces) {
    const auto path = folder_.file("t.png", png_with(text_chunk));
    expect_error<InputError>([&] { read_png_text(path); }, pieces);
    expect_error<InputError>([&] { read_image(path); }, pieces);
  };
  refuse(chunk("tEXt", "no separator"), {"tEXt chunk has no end of a field"});
  refuse(chunk("zTXt", "a\0"s), {"zTXt chunk is cut short"});
  refuse(chunk("zTXt", "a\0\1"s + deflated("x")), {"unknown packing method"});
  refuse(chunk("zTXt", "a\0\0garbage"s), {"packed wrongly"});
  refuse(chunk("zTXt", "a\0\0"s + deflated("xyz").substr(0, 5)), {"packed wrongly"});
  refuse(chunk("iTXt", "a\0"s), {"iTXt chunk is cut short"});
  refuse(chunk("iTXt", "a\0\0\0language"s), {"no end of a field"});
  refuse(chunk("iTXt", "a\0\1\2\0\0x"s), {"unknown packing method"});
}

TEST_F(PictureFiles, PackedTextPast64MiBIsRefused) {
  const std::string bomb = chunk("zTXt", "a\0\0"s + deflated(std::string((64 << 20) + 1, 'x')));
  expect_error<InputError>([&] { read_png_text(folder_.file("t.png", png_with(bomb))); },
                           {"unpacks to too much text"});
  const std::string half = chunk("zTXt", "a\0\0"s + deflated(std::string(40 << 20, 'x')));
  EXPECT_NO_THROW(read_png_text(folder_.file("t.png", png_with(half))));
  expect_error<InputError>([&] { read_png_text(folder_.file("t.png", png_with(half + half))); },
                           {"unpacks to too much text"});
}

TEST_F(PictureFiles, TextOfSomethingElseIsRefused) {
  expect_error<InputError>([&] { read_png_text(kGoldens / "jpeg_444.jpg"); },
                           {"jpeg_444.jpg", "no PNG"});
  expect_error<InputError>([&] { read_png_text(folder_ / "none.png"); }, {"No such file"});
}

TEST_F(PictureFiles, WhatIsEncodedComesBack) {
  const Tensor pixels = at::randint(0, 256, {13, 7, 3}).to(at::kByte);
  const PngText text = {{"parameters", "a cat\nSteps: 30, gr\xC3\xBC\xC3\x9F"},
                        {"parameters", "\xE7\x8C\xAB"},
                        {"molar", "{\"schema\": 1}"},
                        {"empty", ""}};
  const std::string bytes = encode_png(pixels, text);
  const auto path = folder_.file("t.png", bytes);
  EXPECT_TRUE(at::equal(read_image(path), pixels));
  EXPECT_EQ(read_png_text(path), text);
  std::vector<std::string> types;
  for (const auto& one : parse_png_chunks(bytes, "t"))
    if (one.type != "IDAT") types.emplace_back(one.type);
  EXPECT_EQ(types, (std::vector<std::string>{"IHDR", "tEXt", "iTXt", "iTXt", "tEXt", "IEND"}));
}

TEST_F(PictureFiles, EncodesATensorThatIsNotContiguous) {
  const Tensor planes = at::randint(0, 256, {3, 5, 4}).to(at::kByte);
  const auto path = folder_.file("t.png", encode_png(planes.permute({1, 2, 0}), {}));
  EXPECT_TRUE(at::equal(read_image(path), planes.permute({1, 2, 0})));
}

TEST_F(PictureFiles, TextThatNoChunkCanHoldIsMended) {
  const auto path = folder_.file(
      "t.png", encode_png(at::zeros({1, 1, 3}, at::kByte), {{"a", "x\0y"s}, {"b", "caf\xE9"}}));
  EXPECT_EQ(read_png_text(path), (PngText{{"a", "x\xEF\xBF\xBDy"}, {"b", "caf\xEF\xBF\xBD"}}));
}

TEST_F(PictureFiles, JpegsComeBackNearlyAsTheyWere) {
  const Tensor ramp = at::arange(0, 240, 5).view({1, 48, 1}).expand({30, 48, 3}).to(at::kByte);
  const std::string fine = encode_jpeg(ramp, 95), coarse = encode_jpeg(ramp, 20);
  EXPECT_LT(coarse.size(), fine.size());
  const Tensor back = read_image(folder_.file("t.jpg", fine));
  EXPECT_EQ(back.sizes(), ramp.sizes());
  EXPECT_LE((back.to(at::kInt) - ramp.to(at::kInt)).abs().max().item<int>(), 6);
  expect_error<Error>([] { encode_jpeg(at::zeros({1, 70000, 3}, at::kByte), 90); },
                      {"70000 x 1", "cannot write a JPEG"});
}

TEST(EncodePng, RefusesOtherTensorsAndKeywords) {
  const Tensor pixel = at::zeros({1, 1, 3}, at::kByte);
  expect_error<Error>([] { encode_png(at::zeros({3, 2, 2}, at::kByte), {}); },
                      {"encode_png", "[3, 2, 2]"});
  expect_error<Error>([] { encode_png(at::zeros({2, 2, 3}), {}); },
                      {"wanted uint8, found float32"});
  expect_error<Error>([] { encode_png(at::zeros({0, 2, 3}, at::kByte), {}); },
                      {"cannot encode a PNG of [0, 2, 3]"});
  for (const std::string& keyword : {""s, " a"s, "a "s, "a\nb"s, "\xFC"s, std::string(80, 'k')})
    expect_error<Error>([&] { encode_png(pixel, {{keyword, "x"}}); }, {"keyword"});
}

}  // namespace
}  // namespace molar
