#include "molar/pipeline/batch_folder.h"

#include <gtest/gtest.h>

#include <fstream>

#include "molar/io/file.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;

RowResult done(int64_t row, const std::string& key) {
  return {.row = row, .key = key, .pictures = {{picture_name(row, key, 0, 1), 7}}};
}
RowResult failed(int64_t row, const std::string& key) {
  return {.row = row, .key = key, .error = "it \"broke\"", .exit_code = ExitCode::kPicture};
}
void touch(const std::filesystem::path& path) { std::ofstream(path) << "x"; }
std::string text_of(const std::filesystem::path& path) { return read_file(path, 1 << 20); }

TEST(BatchFolder, NamesSayRowAndContent) {
  EXPECT_EQ(picture_name(12, "abc", 0, 1), "00012-abc.png");
  EXPECT_EQ(picture_name(123456, "abc", 3, 4), "123456-abc-3.png");
  EXPECT_EQ(results_name({}), "results.jsonl");
  EXPECT_EQ(results_name({2, 5}), "results.2-of-5.jsonl");
}

TEST(BatchFolder, FinishedItIsTheFileOfAnUninterruptedRun) {
  const test::TempFolder folder;
  {
    BatchFolder batch(folder / "a", {}, 2, {});
    batch.record(done(1, "k1"));
    batch.record(done(2, "k2"));
    batch.finish({{1, "k1"}, {2, "k2"}});
  }
  {
    BatchFolder batch(folder / "b", {}, 2, {});
    batch.record(done(2, "k2"));
    batch.record(failed(1, "k1"));
    batch.record(failed(1, "old"));  // of a list that was changed since
  }
  std::ofstream(folder / "b" / "results.jsonl", std::ios::app) << "{\"row\": 1, \"ke";
  {
    BatchFolder batch(folder / "b", {}, 2, {});
    ASSERT_NE(batch.find(1, "k1"), nullptr);
    EXPECT_FALSE(batch.find(1, "k1")->done());
    EXPECT_EQ(batch.find(1, "k1")->exit_code, ExitCode::kPicture);
    EXPECT_EQ(batch.find(2, "k1"), nullptr);
    batch.record(done(1, "k1"));
    batch.record(done(2, "k2"));  // known: no line more
    batch.finish({{1, "k1"}, {2, "k2"}});
  }
  EXPECT_EQ(text_of(folder / "a" / "results.jsonl"), text_of(folder / "b" / "results.jsonl"));
}

TEST(BatchFolder, PartsOfItsOwnFilesGoOthersStay) {
  const test::TempFolder folder;
  for (const char* name : {"1.png.molar-12-0", "results.jsonl.molar-3-4", "2.png.molar-12-0",
                           "1.png.molar-notes", "1.png"})
    touch(folder / name);
  const BatchFolder batch(folder / "", {}, 1, {"1.png"});
  EXPECT_FALSE(batch.has("1.png.molar-12-0"));
  EXPECT_FALSE(batch.has("results.jsonl.molar-3-4"));
  for (const char* name : {"2.png.molar-12-0", "1.png.molar-notes", "1.png"})
    EXPECT_TRUE(batch.has(name)) << name;
}

TEST(BatchFolder, StatusIsOfAllShards) {
  const test::TempFolder folder;
  expect_error<FileError>([&] { read_batch_status(folder / "none"); }, {"holds no batch"});
  {
    BatchFolder first(folder / "out", {0, 2}, 4, {}), second(folder / "out", {1, 2}, 4, {});
    first.record(done(2, "k"));
    second.record(failed(1, "k"));
    second.record(done(3, "k"));  // its picture is gone
    expect_error<FileError>([&] { BatchFolder(folder / "out", {1, 2}, 4, {}); }, {"another run"});
  }
  touch(folder / "out" / picture_name(2, "k", 0, 1));
  const BatchStatus status = read_batch_status(folder / "out");
  EXPECT_EQ(status.num_rows, 4);
  EXPECT_EQ(status.num_done, 1);
  ASSERT_EQ(status.failed.size(), 1U);
  EXPECT_EQ(status.failed[0].error, "it \"broke\"");
  EXPECT_EQ(status.missing, (std::vector<int64_t>{3, 4}));
}

TEST(BatchFolder, ResultsAreOfThisListEvenAfterAnotherOne) {
  const test::TempFolder folder;
  for (const char* key : {"new", "old", "new"}) {  // "old" comes last in the order of keys
    BatchFolder batch(folder / "out", {}, 2, {});
    for (const int64_t row : {1, 2}) batch.record(done(row, key));
    batch.finish({{1, key}, {2, key}});
  }
  const BatchResults results = read_batch_results(folder / "out");
  ASSERT_EQ(results.rows.size(), 2U);
  EXPECT_EQ(results.rows.at(1).key, "new");
  EXPECT_EQ(results.rows.at(2).key, "new");
  EXPECT_EQ(results.num_broken, 0);
}

TEST(BatchFolder, ResultsThatLeadOutOfTheFolderAreNone) {
  const test::TempFolder folder;
  {
    BatchFolder(folder / "out", {}, 9, {}).record(done(1, "k"));
  }
  std::ofstream file(folder / "out" / "results.jsonl", std::ios::app);
  for (const char* name : {"/etc/x.png", "../x.png", "a/x.png", "..", ""}) {
    RowResult result = done(2, "k");
    result.pictures[0].file = name;
    file << result.to_json().dump() << "\n";
  }
  file.close();
  const BatchResults results = read_batch_results(folder / "out");
  EXPECT_EQ(results.num_broken, 5);
  EXPECT_EQ(results.rows.size(), 1U);
  EXPECT_EQ(results.num_rows, 9);
}

TEST(BatchFolder, FailedRowsKeepWhatWasAskedFor) {
  RowResult row = failed(3, "k");
  EXPECT_TRUE(RowResult::from_json(row.to_json()).request.is_null());  // of earlier versions
  row.request = {{"prompt", "a dog"}};
  EXPECT_EQ(RowResult::from_json(row.to_json()).request, row.request);
}

}  // namespace
}  // namespace molar
