#include "molar/core/atomic_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <string>
#include <vector>

#include "molar/core/error.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "temporary_file.h"

namespace molar {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::read_bytes;
using test::TempFolder;

fs::path write_text(const fs::path& target, OnExist on_exist, std::string_view text) {
  return write_file_atomically(target, on_exist, [&](const ByteSink& sink) { sink(text); }).path;
}

/// Runs `action` in a process of its own and returns its wait status.
template <typename Action>
int in_child(const Action& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = action();
    } catch (const Error& error) {
      code = static_cast<int>(error.exit_code());
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(AtomicFile, WritesWhatTheSinkGot) {
  const TempFolder folder;
  const fs::path path =
      write_file_atomically(folder / "a.bin", OnExist::kError, [](const ByteSink& sink) {
        sink("one");
        sink("");
        sink(std::string_view("\0two", 4));
      }).path;
  EXPECT_EQ(path, folder / "a.bin");
  EXPECT_EQ(read_bytes(path), std::string("one\0two", 7));
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicFile, GoesBackToWhatItWroteAndOnAtTheEnd) {
  const TempFolder folder;
  const auto write = [](const ByteSink& sink) {
    sink("head tail");
    sink.rewrite(0, "HEAD");
    sink(" end");
  };
  EXPECT_EQ(read_bytes(write_file_atomically(folder / "a", OnExist::kError, write).path),
            "HEAD tail end");
}

TEST(AtomicFile, MakesTheFoldersOnTheWay) {
  const TempFolder folder;
  EXPECT_EQ(read_bytes(write_text(folder / "x/y/z.txt", OnExist::kError, "deep")), "deep");
}

TEST(AtomicFile, WritesANameWithoutAFolderIntoTheCurrentOne) {
  const TempFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_text("here.txt", OnExist::kOverwrite, "1");
  write_text("here.txt", OnExist::kOverwrite, "2");
  fs::current_path(before);
  EXPECT_EQ(read_bytes(folder / "here.txt"), "2");
}

TEST(AtomicFile, NewFilesFollowTheUmask) {
  const TempFolder folder;
  const mode_t before = ::umask(027);
  const fs::path path = write_text(folder / "a", OnExist::kError, "x");
  ::umask(before);
  EXPECT_EQ(fs::status(path).permissions(), static_cast<fs::perms>(0640));
}

TEST(AtomicFile, NumberKeepsEveryOlderFile) {
  const TempFolder folder;
  EXPECT_EQ(write_text(folder / "a.png", OnExist::kNumber, "0"), folder / "a.png");
  EXPECT_EQ(write_text(folder / "a.png", OnExist::kNumber, "1"), folder / "a-1.png");
  EXPECT_EQ(write_text(folder / "a.png", OnExist::kNumber, "2"), folder / "a-2.png");
  fs::remove(folder / "a-1.png");
  EXPECT_EQ(resolve_target(folder / "a.png", OnExist::kNumber), folder / "a-1.png");
  EXPECT_EQ(read_bytes(folder / "a.png"), "0");
}

TEST(AtomicFile, SkipKeepsTheOldFileAndDoesNotCallTheWriter) {
  const TempFolder folder;
  write_text(folder / "a", OnExist::kError, "old");
  bool called = false;
  const auto write = [&](const ByteSink&) { called = true; };
  const WrittenFile kept = write_file_atomically(folder / "a", OnExist::kSkip, write);
  EXPECT_EQ(kept.path, folder / "a");
  EXPECT_FALSE(kept.written);
  EXPECT_FALSE(called);
  EXPECT_EQ(read_bytes(kept.path), "old");
  EXPECT_TRUE(write_file_atomically(folder / "b", OnExist::kSkip, write).written);
  EXPECT_TRUE(called);
}

TEST(AtomicFile, SkipKeepsAFileThatAppearsWhileTheNewOneIsWritten) {
  const TempFolder folder;
  const WrittenFile kept =
      write_file_atomically(folder / "a", OnExist::kSkip, [&](const ByteSink& sink) {
        sink("late");
        folder.file("a", "first");
      });
  EXPECT_FALSE(kept.written);
  EXPECT_EQ(read_bytes(folder / "a"), "first");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(NumberedNames, AreTheFreeOnesInOrder) {
  const TempFolder folder;
  folder.file("a.png", "0");
  folder.file("a-2.png", "2");
  NumberedNames names(folder / "a.png");
  for (const char* name : {"a-1.png", "a-3.png", "a-4.png"}) EXPECT_EQ(names.next(), folder / name);
  EXPECT_EQ(NumberedNames(folder / "b").next(), folder / "b");
}

TEST(AtomicFile, OverwriteReplacesTheOldFile) {
  const TempFolder folder;
  write_text(folder / "a", OnExist::kError, "old");
  write_text(folder / "a", OnExist::kOverwrite, "new");
  EXPECT_EQ(read_bytes(folder / "a"), "new");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicFile, ErrorRefusesAnExistingFileAndSaysHowToGoOn) {
  const TempFolder folder;
  write_text(folder / "a", OnExist::kError, "old");
  expect_error<ConfigError>([&] { write_text(folder / "a", OnExist::kError, "new"); },
                            {"exists", "--on-exist"});
  EXPECT_EQ(read_bytes(folder / "a"), "old");
}

TEST(AtomicFile, ADanglingLinkCountsAsAnExistingFile) {
  const TempFolder folder;
  fs::create_symlink("nowhere", folder / "a");
  EXPECT_EQ(write_text(folder / "a", OnExist::kNumber, "x"), folder / "a-1");
  EXPECT_EQ(write_text(folder / "a", OnExist::kSkip, "x"), folder / "a");
  EXPECT_FALSE(fs::exists(folder / "nowhere"));
}

TEST(AtomicFile, AFolderIsNoTarget) {
  const TempFolder folder;
  fs::create_directory(folder / "sub");
  for (const OnExist rule : {OnExist::kNumber, OnExist::kOverwrite})
    expect_error<FileError>([&] { write_text(folder / "sub", rule, "x"); }, {"sub", "folder"});
  expect_error<FileError>([&] { write_text(folder / "new/", OnExist::kNumber, "x"); }, {"folder"});
}

TEST(AtomicFile, AFileOnTheWayIsNamedInTheError) {
  const TempFolder folder;
  folder.file("file", "x");
  expect_error<FileError>([&] { write_text(folder / "file/a", OnExist::kNumber, "x"); },
                          {"cannot create folder", "Not a directory"});
}

TEST(AtomicFile, AFolderThatCannotBeWrittenIsNamedInTheError) {
  expect_error<FileError>([&] { write_text("/proc/a.png", OnExist::kNumber, "x"); },
                          {"cannot create", "/proc/a.png"});
}

TEST(AtomicFile, AWriterThatThrowsLeavesNothingNewAndTheOldFileWhole) {
  const TempFolder folder;
  write_text(folder / "a", OnExist::kError, "old");
  for (const OnExist rule : {OnExist::kNumber, OnExist::kOverwrite}) {
    const auto write = [](const ByteSink& sink) {
      sink("half");
      throw InputError("the rest is missing");
    };
    EXPECT_THROW(write_file_atomically(folder / "a", rule, write), InputError);
  }
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicFile, AProcessKilledInTheMiddleLeavesNothingNewAndTheOldFileWhole) {
  const TempFolder folder;
  write_text(folder / "a", OnExist::kError, "old");
  const int status = in_child([&] {
    write_file_atomically(folder / "a", OnExist::kOverwrite, [](const ByteSink& sink) {
      sink("half");
      ::kill(::getpid(), SIGKILL);
    });
    return 0;
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(folder.num_entries(), 1U) << "the unfinished file is still there";
}

TEST(AtomicFile, AFullDiskIsAnErrorThatLeavesNothingNew) {
  const TempFolder folder;
  write_text(folder / "a", OnExist::kError, "old");
  const int status = in_child([&]() -> int {
    // The nearest to a full disk without one: the kernel refuses to let a file grow.
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    write_text(folder / "a", OnExist::kOverwrite, std::string(10000, 'x'));
    return 0;
  });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::kFile));
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicFile, WritersThatRaceForOneNameEachKeepAFile) {
  const TempFolder folder;
  constexpr int kNumWriters = 8, kNumRounds = 20;
  std::vector<pid_t> children;
  for (int writer = 0; writer < kNumWriters; ++writer) {
    const pid_t child = ::fork();
    if (child == 0) {
      int code = 0;
      try {
        for (int round = 0; round < kNumRounds; ++round)
          write_text(folder / "a.txt", OnExist::kNumber,
                     std::to_string(writer * kNumRounds + round));
      } catch (const std::exception&) {
        code = 1;
      }
      ::_exit(code);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  std::set<std::string> contents;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    contents.insert(read_bytes(entry.path()));
  EXPECT_EQ(contents.size(), static_cast<size_t>(kNumWriters * kNumRounds));
  EXPECT_EQ(folder.num_entries(), contents.size());
}

class TemporaryFileOfEachKind : public testing::TestWithParam<TemporaryFile::Kind> {};

TEST_P(TemporaryFileOfEachKind, IsSeenOnlyOncePublished) {
  const TempFolder folder;
  {
    TemporaryFile file(folder / "a", GetParam());
    file.write("new");
    file.sync();
    EXPECT_FALSE(fs::exists(folder / "a"));
    EXPECT_TRUE(file.publish_new(folder / "a"));
  }
  EXPECT_EQ(read_bytes(folder / "a"), "new");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST_P(TemporaryFileOfEachKind, DoesNotReplaceUnlessAsked) {
  const TempFolder folder;
  folder.file("a", "old");
  {
    TemporaryFile file(folder / "a", GetParam());
    file.write("new");
    EXPECT_FALSE(file.publish_new(folder / "a"));
    EXPECT_EQ(read_bytes(folder / "a"), "old");
    file.publish_over(folder / "a");
    EXPECT_EQ(read_bytes(folder / "a"), "new");
  }
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST_P(TemporaryFileOfEachKind, DestroyedUnpublishedItLeavesNothing) {
  const TempFolder folder;
  {
    TemporaryFile file(folder / "a", GetParam());
    file.write("x");
  }
  EXPECT_EQ(folder.num_entries(), 0U);
}

TEST_P(TemporaryFileOfEachKind, NamesTheFolderThatIsMissing) {
  const TempFolder folder;
  expect_error<FileError>([&] { TemporaryFile(folder / "none/a", GetParam()); },
                          {"none/a", "No such file or directory"});
}

INSTANTIATE_TEST_SUITE_P(Kinds, TemporaryFileOfEachKind,
                         testing::Values(TemporaryFile::Kind::kUnnamed,
                                         TemporaryFile::Kind::kNamed));

}  // namespace
}  // namespace molar
