#include "common/file_state.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace liger {
namespace {

namespace fs = std::filesystem;

class FileStateTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "state-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    Write("rows.jsonl", "{\"text\": \"a\"}");
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  void Write(const std::string& name, const std::string& text) {
    absl::SleepFor(absl::Milliseconds(20));  // a tick of the file system's clock
    std::ofstream(Path(name)) << text;
  }
  std::string Digest() const { return FileStateDigest("rows.jsonl", Path("rows.jsonl")); }
  std::string Folder() const { return FolderStateDigest(dir_, "templates"); }

  std::string dir_;
};

TEST_F(FileStateTest, StaysWhileNobodyTouchesTheFile) {
  EXPECT_TRUE(Digest().starts_with("sha256:")) << Digest();
  const std::string before = Digest();
  std::string content;
  std::ifstream(Path("rows.jsonl")) >> content;
  EXPECT_EQ(Digest(), before) << "it was only read";
}

TEST_F(FileStateTest, AnEditThatKeepsSizeAndMtimeIsSeen) {
  const std::string before = Digest();
  const auto mtime = fs::last_write_time(Path("rows.jsonl"));
  Write("rows.jsonl", "{\"text\": \"b\"}");  // the same inode
  fs::last_write_time(Path("rows.jsonl"), mtime);
  EXPECT_NE(Digest(), before);
}

TEST_F(FileStateTest, ACopyInItsPlaceIsSeen) {
  const std::string before = Digest();
  const auto mtime = fs::last_write_time(Path("rows.jsonl"));
  fs::copy_file(Path("rows.jsonl"), Path("new"));
  fs::last_write_time(Path("new"), mtime);
  fs::rename(Path("new"), Path("rows.jsonl"));
  EXPECT_NE(Digest(), before);
}

TEST_F(FileStateTest, ALinkHasTheStateOfItsTarget) {
  fs::create_symlink("rows.jsonl", Path("link"));
  EXPECT_EQ(FileStateDigest("rows.jsonl", Path("link")), Digest());
  EXPECT_NE(FileStateDigest("link", Path("link")), Digest()) << "under another name";
  Write("other.jsonl", "{}");
  fs::remove(Path("link"));
  fs::create_symlink("other.jsonl", Path("link"));
  EXPECT_NE(FileStateDigest("rows.jsonl", Path("link")), Digest()) << "it leads elsewhere";
}

TEST_F(FileStateTest, OnlyRegularFilesHaveOne) {
  EXPECT_EQ(FileStateDigest("none", Path("none")), "");
  EXPECT_EQ(FileStateDigest("folder", dir_), "");
}

TEST_F(FileStateTest, AFoldersChangesWithItsFilesAndThoseOfTheSubfolder) {
  std::string last = Folder();
  const auto expect_change = [&](bool changed, const char* what) {
    EXPECT_EQ(Folder() != last, changed) << what;
    last = Folder();
  };
  Write(".lock", "1");
  expect_change(false, "a hidden file");
  Write("config.json", "{}");
  expect_change(true, "a file more");
  fs::create_directory(Path("templates"));
  expect_change(true, "the subfolder");
  Write("templates/rag.jinja", "{{ messages }}");
  expect_change(true, "a file in it");
  fs::create_directory(Path("checkpoints"));
  Write("checkpoints/step", "1");
  expect_change(false, "another folder");
  fs::remove(Path("config.json"));
  expect_change(true, "a file less");
}

TEST_F(FileStateTest, OfFilesAnywhereOneThatIsMissingCounts) {
  const std::string both = FileStatesDigest({Path("rows.jsonl"), Path("lib.so")});
  EXPECT_NE(both, FileStatesDigest({Path("rows.jsonl")}));
  Write("lib.so", "1");
  EXPECT_NE(FileStatesDigest({Path("rows.jsonl"), Path("lib.so")}), both);
}

}  // namespace
}  // namespace liger
