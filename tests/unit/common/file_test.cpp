#include "common/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

namespace liger {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    char name[] = "/tmp/liger_file_test.XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~FileTest() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  size_t Entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {}));
  }
  std::string folder_;
};

TEST_F(FileTest, RemovesWhatAKilledWriterLeftAndNothingElse) {
  for (const char* name : {"record.tmp.123", "record", "record.tmp.", "record.tmp.12a", "x.tmp"}) {
    ASSERT_TRUE(WriteFileAtomically(Path(name), "x").ok());
  }
  RemoveTemporaries(folder_);
  EXPECT_FALSE(fs::exists(Path("record.tmp.123")));
  EXPECT_EQ(Entries(), 4u);
  RemoveTemporaries(Path("none"));
}

TEST_F(FileTest, ReadsBackWhatWasWritten) {
  const std::string content("a\0b", 3);
  ASSERT_TRUE(WriteFileAtomically(Path("f"), content).ok());
  ASSERT_TRUE(WriteFileAtomically(Path("f"), content + content).ok());
  EXPECT_EQ(*ReadFile(Path("f")), content + content);
  EXPECT_EQ(Entries(), 1u);
}

TEST_F(FileTest, MissingFileIsNotFoundAndNamed) {
  const auto result = ReadFile(Path("absent"));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(result.status().message().find("absent"), std::string::npos);
}

TEST_F(FileTest, RefusesAFileOverTheLimit) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "12345").ok());
  EXPECT_TRUE(ReadFile(Path("f"), 5).ok());
  EXPECT_EQ(ReadFile(Path("f"), 4).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(FileTest, AFailedWriteKeepsTheOldFileAndLeavesNothingBehind) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "old").ok());
  const pid_t child = fork();
  if (child == 0) {  // the limit stands in for a full disk
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    _exit(WriteFileAtomically(Path("f"), std::string(5000, 'x')).ok() ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(*ReadFile(Path("f")), "old");
  EXPECT_EQ(Entries(), 1u);
}

TEST_F(FileTest, Sha256OfKnownVectors) {
  // FIPS 180-2, appendix B.1.
  const std::string abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  EXPECT_EQ(Sha256("abc"), abc);
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "abc").ok());
  EXPECT_EQ(*Sha256File(Path("f")), abc);
}

}  // namespace
}  // namespace liger
