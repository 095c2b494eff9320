#include "molar/io/json_config.h"

#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "molar/io/json_order.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;
using test::TempFolder;

TEST(JsonReading, TakesAFile) {
  const TempFolder folder;
  const Json json =
      read_json_file(folder.file("config.json", R"({"a": [1, 2.5, "x", null, true]})"));
  EXPECT_EQ(json, (Json{{"a", {1, 2.5, "x", nullptr, true}}}));
}

TEST(JsonReading, NamesTheFileThatIsMissing) {
  expect_error<FileError>([] { read_json_file("/none/config.json"); },
                          {"/none/config.json", "No such file"});
}

TEST(JsonReading, NamesLineAndColumnOfBrokenJson) {
  const TempFolder folder;
  const auto path = folder.file("config.json", "{\n  \"a\": 1,\n  b\n}");
  expect_error<FileError>([&] { read_json_file(path); },
                          {"config.json", "not valid JSON", "line 3, column 3"});
}

TEST(JsonReading, RefusesWhatIsNotJson) {
  for (const char* text : {"", " ", "{", "[1,", "{\"a\":}", "{'a':1}", "{\"a\":1,}", "NaN", "{} {}",
                           "\xFF\xFE", "\"\xC3\""})
    expect_error<FileError>([&] { parse_json(text, "x.json"); }, {"x.json is not valid JSON"});
  expect_error<FileError>([] { parse_json(std::string_view("{}\0{", 4), "x.json"); }, {"NUL byte"});
  expect_error<FileError>([] { parse_json("[1e999]", "x.json"); }, {"x.json is not valid JSON"});
}

TEST(JsonReading, RefusesDuplicateKeysInEveryObject) {
  expect_error<FileError>([] { parse_json(R"({"a":1,"b":2,"a":3})", "x.json"); },
                          {"key \"a\" appears twice"});
  expect_error<FileError>([] { parse_json(R"([{"o":{"k":1,"k":1}}])", "x.json"); },
                          {"key \"k\" appears twice"});
  EXPECT_NO_THROW(parse_json(R"({"a":{"a":1},"b":[{"a":1},{"a":2}]})", "x.json"));
}

TEST(JsonReading, RefusesNestingPast64LevelsWithoutRecursion) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json(nested(64), "x.json"));
  expect_error<FileError>([&] { parse_json(nested(65), "x.json"); },
                          {"nested deeper than 64 levels"});
  expect_error<FileError>([&] { parse_json(std::string(5'000'000, '['), "x.json"); },
                          {"64 levels"});
}

TEST(JsonReading, RefusesFilesPast256MiB) {
  const TempFolder folder;
  const auto path = folder.file("big.json", "{}");
  std::filesystem::resize_file(path, (256ULL << 20) + 1);  // sparse: takes no disk
  expect_error<FileError>([&] { read_json_file(path); }, {"big.json", "268435457 bytes"});
}

class JsonConfigReading : public testing::Test {
 protected:
  const Json object_ = parse_json(
      R"({"flag": true, "count": 8, "rate": 0.5, "name": "silu", "gone": null, "sizes": [320, 640],
          "rates": [1, 0.5], "names": ["a"], "flags": [true, false], "huge": 18446744073709551615,
          "lowest": -9223372036854775808, "_class_name": "X"})",
      "unet");
  const JsonConfig config_{object_, "unet/config.json"};
};

TEST_F(JsonConfigReading, ReadsEachType) {
  EXPECT_TRUE(config_.get<bool>("flag"));
  EXPECT_EQ(config_.get<int64_t>("count"), 8);
  EXPECT_EQ(config_.get<int64_t>("lowest"), INT64_MIN);
  EXPECT_EQ(config_.get<double>("rate"), 0.5);
  EXPECT_EQ(config_.get<double>("count"), 8.0);
  EXPECT_EQ(config_.get<std::string>("name"), "silu");
  EXPECT_EQ(config_.get<std::vector<int64_t>>("sizes"), (std::vector<int64_t>{320, 640}));
  EXPECT_EQ(config_.get<std::vector<double>>("rates"), (std::vector<double>{1.0, 0.5}));
  EXPECT_EQ(config_.get<std::vector<std::string>>("names"), (std::vector<std::string>{"a"}));
  EXPECT_EQ(config_.get<std::vector<bool>>("flags"), (std::vector<bool>{true, false}));
}

TEST_F(JsonConfigReading, NullAndAbsentAreTheSame) {
  for (const auto& [key, found] : {std::pair("gone", "null"), std::pair("never", "missing")}) {
    EXPECT_FALSE(config_.has(key));
    EXPECT_EQ(config_.get_or<int64_t>(key, 3), 3);
    EXPECT_EQ(config_.get_optional<std::string>(key), std::nullopt);
    expect_error<FileError>([&] { config_.get<int64_t>(key); },
                            {"unet/config.json", key, found, "a whole number"});
  }
  EXPECT_TRUE(config_.has("flag"));
  EXPECT_EQ(config_.get_optional<int64_t>("count"), 8);
}

TEST_F(JsonConfigReading, NamesKeyWantedAndFoundForAWrongType) {
  expect_error<FileError>([&] { config_.get<bool>("count"); },
                          {"unet/config.json: 'count' must be true or false, is 8"});
  expect_error<FileError>([&] { config_.get<int64_t>("rate"); },
                          {"'rate' must be a whole number, is 0.5"});
  expect_error<FileError>([&] { config_.get<int64_t>("flag"); },
                          {"'flag' must be a whole number, is true"});
  expect_error<FileError>([&] { config_.get<int64_t>("huge"); },
                          {"'huge' must be a whole number, is 184467"});
  expect_error<FileError>([&] { config_.get<double>("name"); },
                          {"'name' must be a number, is \"silu\""});
  expect_error<FileError>([&] { config_.get<std::string>("count"); },
                          {"'count' must be a string, is 8"});
  expect_error<FileError>([&] { config_.get<std::vector<int64_t>>("rates"); },
                          {"'rates' must be a list, each a whole number, is [1,0.5]"});
  expect_error<FileError>([&] { config_.get<std::vector<int64_t>>("count"); }, {"must be a list"});
}

TEST_F(JsonConfigReading, SpreadsAScalarOverTheBlocks) {
  EXPECT_EQ(config_.get_per_block("count", 3, 1), (std::vector<int64_t>{8, 8, 8}));
  EXPECT_EQ(config_.get_per_block("sizes", 2, 1), (std::vector<int64_t>{320, 640}));
  EXPECT_EQ(config_.get_per_block("gone", 2, 5), (std::vector<int64_t>{5, 5}));
  expect_error<FileError>([&] { config_.get_per_block("sizes", 3, 1); },
                          {"'sizes'", "one number or 3", "has 2"});
  expect_error<FileError>([&] { config_.get_per_block("name", 3, 1); },
                          {"'name' must be a whole number"});
}

TEST_F(JsonConfigReading, FindsTheFirstKeyThatNobodyRead) {
  config_.ignore({"count", "flag", "flags", "huge", "lowest", "name", "names"});
  config_.get<double>("rate");
  config_.get<std::vector<double>>("rates");
  expect_error<FileError>(
      [&] { config_.refuse_unread_keys(); },
      {"unet/config.json: 'sizes' = [320,640] is not a setting that molar knows"});
  config_.has("sizes");
  EXPECT_NO_THROW(config_.refuse_unread_keys());  // null and names with '_' need no reader
}

TEST_F(JsonConfigReading, HoldsAKeyToTheSupportedValues) {
  EXPECT_NO_THROW(config_.require_one_of("name", {"silu", "gelu"}));
  EXPECT_NO_THROW(config_.require_one_of("count", {8}));
  EXPECT_NO_THROW(config_.require_one_of("gone", {"silu"}));
  EXPECT_NO_THROW(config_.require_one_of("never", {"silu"}));
  expect_error<FileError>([&] { config_.require_one_of("name", {"gelu", 1, false}); },
                          {"'name' is \"silu\"; molar supports \"gelu\", 1, false"});
}

TEST(JsonConfig, RefusesWhatIsNoObject) {
  for (const char* text : {"[]", "1", "null", "\"x\""})
    expect_error<FileError>(
        [&] {
          const Json json = parse_json(text, "x");
          JsonConfig(json, "vae/config.json");
        },
        {"vae/config.json: wanted a JSON object", text});
}

TEST(JsonConfig, ShowsLargeValuesShortened) {
  const Json json{{"a", std::vector<int>(1000, 1)}, {"b", std::string(1000, 'x')}};
  const JsonConfig config(json, "c");
  expect_error<FileError>([&] { config.get<bool>("a"); }, {"is a list of 1000 values"});
  EXPECT_LT(expect_error<FileError>([&] { config.get<bool>("b"); }, {"xxx..."}).size(), 160U);
}

TEST(JsonOrder, KeysComeAsTheTextHasThem) {
  const std::string text = R"({"b": {"z": 1, "a": {"z": 2, "q": 3}, "m": [{"k": 4}]}, "z": 1,)"
                           R"( "a": {"b": Infinity}, "c": {}})";
  EXPECT_EQ(keys_in_file_order(text, "b"), (std::vector<std::string>{"z", "a", "m"}));
  EXPECT_EQ(keys_in_file_order(text, "a"), std::vector<std::string>{"b"});
  for (const char* none : {"c", "z", "q", "absent"})
    EXPECT_TRUE(keys_in_file_order(text, none).empty()) << none;
}

}  // namespace
}  // namespace molar
