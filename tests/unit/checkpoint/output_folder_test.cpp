#include "worker/trainer/checkpoint/output_folder.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <functional>

#include "common/bytes.h"
#include "tests/unit/checkpoint/test_util.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

size_t Entries(const std::string& dir) {
  return std::distance(fs::directory_iterator(dir), fs::directory_iterator());
}

// Runs `body` in a child process, as it changes the process; its failures count.
// Exit code 77 skips.
void InChild(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    try {
      body();
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what();
    }
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "NOT TESTED: needs root or user namespaces";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Becomes root in a user namespace of this process's own.
bool EnterUserNamespace() {
  const std::string uid = std::to_string(getuid());
  const std::string gid = std::to_string(getgid());
  if (unshare(CLONE_NEWUSER) != 0) return false;
  WriteFile("/proc/self/setgroups", "deny");
  WriteFile("/proc/self/uid_map", "0 " + uid + " 1");
  WriteFile("/proc/self/gid_map", "0 " + gid + " 1");
  return true;
}

// Mounts a file system of 256 KiB that only this process sees.
bool MountSmallDisk(const std::string& dir) {
  if (geteuid() != 0 && !EnterUserNamespace()) return false;
  return unshare(CLONE_NEWNS) == 0 &&
         mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("none", dir.c_str(), "tmpfs", 0, "size=256k") == 0;
}

TEST(OutputFolder, AppearsAtCommitWithAManifestThatVerifies) {
  const TempDir dir;
  SavedFolder saved;
  {
    OutputFolder folder(dir / "deep/out", false, 0);
    folder.Write("a.txt", "abc");
    folder.Write("sub/b.txt", "");
    WriteFile(dir / "source", "copied");
    folder.Copy("c.txt", dir / "source");
    EXPECT_FALSE(fs::exists(dir / "deep/out"));
    saved = folder.Commit();
  }
  EXPECT_EQ(saved.dir, dir / "deep/out");
  EXPECT_EQ(saved.bytes, 9);
  EXPECT_EQ(ReadFile(dir / "deep/out/c.txt"), "copied");
  // SHA-256 of "abc": FIPS 180-2, appendix B.1.
  EXPECT_THAT(ReadFile(dir / "deep/out/manifest.json"),
              HasSubstr("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
  EXPECT_EQ(VerifyManifest(dir / "deep/out"), saved.manifest_digest);
  EXPECT_EQ(Entries(dir / "deep"), 1u);  // nothing else stays
}

TEST(OutputFolder, EqualContentGivesEqualDigests) {
  const TempDir dir;
  std::string digests[2];
  for (int i = 0; i < 2; ++i) {
    OutputFolder folder(dir / std::to_string(i), false, 0);
    folder.Write("x", "1");
    digests[i] = folder.Commit().manifest_digest;
  }
  EXPECT_EQ(digests[0], digests[1]);
  EXPECT_EQ(digests[0].size(), 7u + 64u);
}

TEST(OutputFolder, VerifyFindsEveryKindOfDamage) {
  const TempDir dir;
  const std::string out = dir / "out";
  OutputFolder folder(out, false, 0);
  folder.Write("a.txt", "abc");
  folder.Commit();
  WriteFile(out + "/a.txt", "abd");
  EXPECT_THAT(FailureOf([&] { VerifyManifest(out); }).message(), HasSubstr("a.txt differs"));
  WriteFile(out + "/a.txt", "abc");
  WriteFile(out + "/new.txt", "");
  EXPECT_THAT(FailureOf([&] { VerifyManifest(out); }).message(),
              HasSubstr("new.txt is not listed"));
  fs::remove(out + "/new.txt");
  fs::remove(out + "/a.txt");
  EXPECT_THAT(FailureOf([&] { VerifyManifest(out); }).message(), HasSubstr("a.txt is missing"));
}

TEST(OutputFolder, WithoutCommitNothingStays) {
  const TempDir dir;
  {
    OutputFolder folder(dir / "out", false, 0);
    folder.Write("a.txt", "abc");
  }
  EXPECT_EQ(Entries(dir.path()), 0u);
}

TEST(OutputFolder, ReplacesOnlyWhatAJobWroteAndOnlyWhenAsked) {
  const TempDir dir;
  const auto write = [&](bool overwrite, const std::string& content) {
    OutputFolder folder(dir / "out", overwrite, 0);
    folder.Write("a.txt", content);
    folder.Commit();
  };
  write(false, "first");
  const auto failure = FailureOf([&] { write(false, "second"); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_CONFIG);
  EXPECT_EQ(failure.field(), "output.uri");
  EXPECT_EQ(ReadFile(dir / "out/a.txt"), "first");
  write(true, "third");
  EXPECT_EQ(ReadFile(dir / "out/a.txt"), "third");
  EXPECT_EQ(Entries(dir.path()), 1u);

  fs::remove(dir / "out/manifest.json");  // somebody's own folder now
  EXPECT_THAT(FailureOf([&] { write(true, "fourth"); }).message(),
              HasSubstr("no folder that a job has written"));
  EXPECT_EQ(ReadFile(dir / "out/a.txt"), "third");
}

TEST(OutputFolder, RemovesWhatAKilledSaveLeft) {
  const TempDir dir;
  InChild([&] {
    auto* folder = new OutputFolder(dir / "out", false, 0);
    folder->Write("a.txt", "abc");
    _exit(0);  // as a SIGKILL: no destructor
  });
  ASSERT_EQ(Entries(dir.path()), 1u);
  OutputFolder folder(dir / "out", false, 0);
  folder.Write("a.txt", "new");
  folder.Commit();
  EXPECT_EQ(Entries(dir.path()), 1u);
}

TEST(OutputFolder, ADiskThatIsTooSmallIsToldBeforeWriting) {
  const TempDir dir;
  const int64_t too_much = int64_t{1} << 60;
  const auto failure = FailureOf([&] { OutputFolder(dir / "out", false, too_much); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(failure.message(),
              AllOf(HasSubstr(dir / "out"), HasSubstr("needs " + Bytes(too_much)),
                    HasSubstr("are free there")));
  EXPECT_THAT(failure.action(), HasSubstr("Free space"));
  EXPECT_EQ(Entries(dir.path()), 0u);
}

// As procfs, and some FUSE file systems that take files.
TEST(OutputFolder, AFileSystemThatDoesNotCountRefusesNothing) {
  EXPECT_EQ(FreeBytes("/proc"), -1);
  EXPECT_NO_THROW(RequireFreeBytes("/proc", int64_t{1} << 60));
}

// A file that may not grow further, in mid-write: EFBIG takes ENOSPC's path.
TEST(OutputFolder, AFailedWriteLeavesNothing) {
  const TempDir dir;
  InChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {1 << 16, 1 << 16};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto failure = FailureOf([&] {
      OutputFolder folder(dir / "out", false, 1234);
      folder.Write("small.txt", "abc");
      folder.Write("big.bin", std::string(1 << 20, 'x'));
      folder.Commit();
    });
    EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_STORAGE);
    EXPECT_THAT(failure.message(), AllOf(HasSubstr("big.bin"), HasSubstr("needs 1.23 kB")));
    EXPECT_EQ(Entries(dir.path()), 0u);
  });
}

// The real thing.
TEST(OutputFolder, AFullDiskLeavesNothing) {
  const TempDir dir;
  InChild([&] {
    if (!MountSmallDisk(dir.path())) _exit(77);
    const auto failure = FailureOf([&] {
      OutputFolder folder(dir / "out", false, /*bytes_needed=*/0);  // passes the first check
      folder.Write("big.bin", std::string(1 << 20, 'x'));
      folder.Commit();
    });
    EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_STORAGE);
    EXPECT_THAT(failure.message(), AllOf(HasSubstr("big.bin: No space left on device"),
                                         HasSubstr("are free there")));
    EXPECT_EQ(Entries(dir.path()), 0u);
    OutputFolder small(dir / "out", false, 1000);
    small.Write("a.txt", "fits");
    small.Commit();
    EXPECT_EQ(ReadFile(dir / "out/a.txt"), "fits");
  });
}

// Nobody waits for a process whose disk is full.
TEST(OutputFolder, WhoFillsTheDiskForAnotherSaysSo) {
  const TempDir dir;
  InChild([&] {
    if (!MountSmallDisk(dir.path())) _exit(77);
    OutputFolder folder(dir / "out", false, /*bytes_needed=*/0);
    const auto fills = [](FileWriter& file) { file.Write(std::string(1 << 20, 'x')); };
    const auto failure = FailureOf([&] { WriteForOther(folder.staging(), "shard", fills); });
    EXPECT_THAT(failure.message(), HasSubstr("shard: No space left on device"));
    // What waits for a word that does not come waits for minutes.
    ASSERT_TRUE(fs::exists(folder.staging() + "/shard.done"));
    const std::atomic<bool> given_up{false};
    const auto told = FailureOf([&] { folder.Await("shard", given_up); });
    EXPECT_EQ(told.message(), failure.message());
    EXPECT_EQ(told.action(), failure.action());
  });
}

}  // namespace
}  // namespace liger::trainer
