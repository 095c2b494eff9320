#include "molar/evaluation/picture_report.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "molar/core/error.h"
#include "molar/core/markup.h"
#include "molar/io/file.h"
#include "molar/io/image.h"
#include "report_columns.h"
#include "report_page.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;
using test::TempFolder;

Json record(const std::string& prompt, int seed, const std::string& merge) {
  return {{"schema", 1},
          {"request", {{"prompt", prompt}, {"seed", seed}, {"merge", "auto"}, {"steps", 20}}},
          {"merge", merge},
          {"sampler", "ddim"},
          {"model", {{"path", "/models/sd15/"}}}};
}

class Report : public testing::Test {
 protected:
  ReportedPicture picture(int64_t row, const Json& record, int64_t side = 16) {
    const std::string name = std::to_string(row) + ".png";
    const PngText text = record.is_null() ? PngText{} : PngText{{"molar", record.dump()}};
    folder.file(name, encode_png(at::full({side, side, 3}, 10 * row, at::kByte), text));
    return {.row = row, .seed = static_cast<uint64_t>(row), .path = folder / name};
  }
  PictureReport make(const ReportOptions& options = {}) {
    ReportOptions given = options;
    given.page_folder = folder.path();
    NoProgress progress;
    return make_report(run, given, progress, CancellationToken());
  }
  /// The JSON in the page.
  static Json data_of(const std::string& page) {
    const std::string start = "<script type=\"application/json\" id=\"data\">";
    const size_t from = page.find(start) + start.size();
    return Json::parse(page.substr(from, page.find("</script>", from) - from));
  }

  TempFolder folder;
  ReportedRun run{.title = "a <run>"};
};

TEST_F(Report, HoldsPicturesRecordsAndFailures) {
  run.pictures = {picture(1, record("a dog", 1, "np")), picture(2, record("a dog", 2, "lorarar"))};
  run.failed = {{.row = 3, .error = "NaN", .exit_code = 7, .request = {{"prompt", "a cat"}}}};
  run.missing = {4, 5, 6, 9};
  const PictureReport report = make({.beside = "merge"});
  const Json data = data_of(report.page);
  EXPECT_EQ(data["columns"], Json::parse(R"([{"name": "prompt", "varies": false},
      {"name": "merge", "varies": true}, {"name": "seed", "varies": true},
      {"name": "steps", "varies": false}, {"name": "sampler", "varies": false},
      {"name": "model", "varies": false}])"));
  EXPECT_EQ(report.varying_columns, (std::vector<std::string>{"merge", "seed"}));
  EXPECT_EQ(data["beside"], "merge");
  EXPECT_EQ(data["missing"], "4-6, 9");
  const Json& first = data["pictures"][0];
  EXPECT_EQ(first["values"], (Json{"a dog", "np", "1", "20", "ddim", "sd15"}));
  EXPECT_EQ(first["record"], record("a dog", 1, "np"));
  EXPECT_EQ(first["link"], "1.png");
  EXPECT_EQ(first["size"], (Json{16, 16}));
  EXPECT_EQ(first["source"],
            "data:image/png;base64," + base64(read_file(folder / "1.png", 1 << 20)));
  EXPECT_EQ(data["failed"][0]["error"], "NaN");
  EXPECT_EQ(data["failed"][0]["asked"], "prompt: a cat");
  EXPECT_EQ(data["counts"].size(), 3U);
  EXPECT_EQ(report.num_unreadable, 0);
  EXPECT_EQ(report.contact_sheet.size(2), 3);
}

TEST_F(Report, ShowsWhatCannotBeRead) {
  run.pictures = {picture(1, record("a dog", 1, "np")), picture(2, record("a dog", 2, "np")),
                  picture(3, record("a dog", 3, "np")), picture(4, Json())};
  std::filesystem::remove(folder / "2.png");
  folder.file("3.png", "no picture");
  const PictureReport report = make();
  EXPECT_EQ(report.num_unreadable, 2);
  const Json data = data_of(report.page);
  EXPECT_EQ(data["pictures"][1]["problem"], "missing: 2.png");
  EXPECT_NE(data["pictures"][2]["problem"].get<std::string>().find("wanted a PNG"),
            std::string::npos);
  EXPECT_EQ(data["pictures"][3]["problem"], "");
  EXPECT_EQ(data["pictures"][3]["record"], Json());
  EXPECT_TRUE(report.varying_columns.empty());  // one picture says what it is
  EXPECT_EQ(data["counts"][1]["text"], "2 of them are missing or broken");
}

TEST_F(Report, TextCannotLeaveItsPlace) {
  const std::string evil = "</script><script>alert(1)</script>\u2028 &amp; @data@ @title@";
  run.title = "</script> @data@";
  run.pictures = {picture(1, record(evil, 1, "np"))};
  const std::string page = make().page;
  EXPECT_EQ(page.find("alert(1)</script>"), std::string::npos);
  EXPECT_EQ(page.find("\u2028"), std::string::npos);
  EXPECT_EQ(data_of(page)["pictures"][0]["record"]["request"]["prompt"], evil);
  EXPECT_NE(page.find("<title>&#60;/script&#62;"), std::string::npos);
  for (const char* loader : {"http:", "https:", "<link", "@import", "url("})
    EXPECT_EQ(page.find(loader), std::string::npos) << loader;
}

TEST_F(Report, LargePicturesAreThumbnailsWhereAskedFor) {
  run.pictures = {picture(1, record("a dog", 1, "np"), 100), picture(2, record("a", 2, "np"), 32)};
  const Json data = data_of(make({.thumbnail_px = 48}).page);
  EXPECT_EQ(data["pictures"][0]["size"], (Json{48, 48}));
  EXPECT_TRUE(data["pictures"][0]["source"].get<std::string>().starts_with("data:image/jpeg;"));
  EXPECT_TRUE(data["pictures"][1]["source"].get<std::string>().starts_with("data:image/png;"));
}

TEST_F(Report, NothingDrawnIsAPageToo) {
  run.missing = {1};
  const PictureReport report = make();
  EXPECT_EQ(data_of(report.page)["pictures"], Json::array());
  EXPECT_EQ(report.contact_sheet.size(2), 3);
}

TEST_F(Report, StopsWhereItIsAsked) {
  run.pictures = {picture(1, Json())};
  CancellationToken token;
  token.request();
  NoProgress progress;
  expect_error<StoppedError>([&] { make_report(run, {}, progress, token); }, {});
}

TEST(ReportColumns, OptionsAreShortTexts) {
  const ColumnValues columns = request_columns(Json::parse(R"({
      "prompt": "a <b>", "count": 1, "cfg-scale": 7.5, "no-mole": true,
      "style": {"file": "/a/ink.v2.safetensors", "weight": 0.8, "blocks": {"MID": 0.5}},
      "subject": {"file": "/a/peft/", "weight": 1.0},
      "lora": [{"file": "/a/x.safetensors", "weight": 2.0}, {"file": "y.safetensors"}],
      "expert": [{"name": "face", "weight": 0.5}], "init-image": "/pictures/a.png",
      "mole": "/a/mole-1.5/",
      "region": [{"expert": "face", "box": [0, 0, 8, 8]}], "odd": null})"));
  const ColumnValues wanted{
      {"prompt", "a <b>"},    {"cfg-scale", "7.5"},
      {"no-mole", "true"},    {"style", "ink.v2@0.8:{\"MID\":0.5}"},
      {"subject", "peft"},    {"lora", "x@2.0, y"},
      {"expert", "face=0.5"}, {"init-image", "a"},
      {"mole", "mole-1.5"},   {"region", "{\"box\":[0,0,8,8],\"expert\":\"face\"}"},
      {"odd", "null"}};
  EXPECT_EQ(columns, wanted);
  EXPECT_EQ(record_columns(Json::parse("[1, 2]")), ColumnValues{});
  EXPECT_EQ(record_columns(Json::parse(R"({"request": 3, "merge": 4})")), ColumnValues{});
}

TEST(ReportColumns, TheFileOfAMergeBelongsToItsMethod) {
  const Json record =
      Json::parse(R"({"request": {"merge": "auto", "hypernet": "/a/net.safetensors"},
                                      "merge": "lorarar"})");
  EXPECT_EQ(record_columns(record), (ColumnValues{{"merge", "lorarar (net)"}}));
}

TEST(ScriptJson, IsJsonOfAsciiWithoutMarkup) {
  const Json json{{"a", "<!--</script>&\u2028\u00fc\xFF"}};
  const std::string text = script_json(json);
  for (const char c : text) EXPECT_TRUE(c >= ' ' && c < 127 && c != '<' && c != '>' && c != '&');
  EXPECT_EQ(Json::parse(text)["a"], "<!--</script>&\u2028\u00fc\uFFFD");
}

TEST(RangesText, JoinsNeighbours) {
  EXPECT_EQ(ranges_text({}), "");
  EXPECT_EQ(ranges_text({4}), "4");
  EXPECT_EQ(ranges_text({1, 2, 3, 7, 9, 10}), "1-3, 7, 9-10");
}

}  // namespace
}  // namespace molar
